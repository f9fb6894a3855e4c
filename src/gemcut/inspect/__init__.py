"""Look at models and machines: what a model is, whether two are the same, how fast it is, what works here."""

from gemcut.inspect.calibrate import calibrate
from gemcut.inspect.doctor import doctor
from gemcut.inspect.licence import check_licence
from gemcut.inspect.models import list_models
from gemcut.inspect.plan import plan
from gemcut.inspect.show import show
from gemcut.inspect.verify import verify

__all__ = ["calibrate", "check_licence", "doctor", "list_models", "plan", "show", "verify"]
