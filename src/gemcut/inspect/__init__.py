"""Look at models and machines: what a model is, what works here, how fast it is."""

from gemcut.inspect.doctor import doctor
from gemcut.inspect.show import show

__all__ = ["doctor", "show"]
