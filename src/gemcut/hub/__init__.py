"""Get a model: references, hubs and their caches on this machine, the starter, licences and their duties."""

from gemcut.hub.cache import cache_folder
from gemcut.hub.duties import Duty, check_duties, duties_metadata, duty_files, write_duties
from gemcut.hub.licence_finding import LicenceFinding, licence_of
from gemcut.hub.licences import TERMS, Terms, licence_of_published, terms_of
from gemcut.hub.local_models import LocalModel, Removal, list_local_models, plan_removal
from gemcut.hub.pull import pull
from gemcut.hub.references import COMMAND_NAMES, Reference, adapter_of, parse_reference, resolve, resolve_whole
from gemcut.hub.starter import find_starter_parts, starter_path, verify_starter
from gemcut.hub.transfer import Progress

__all__ = [
    "COMMAND_NAMES",
    "TERMS",
    "Duty",
    "LicenceFinding",
    "LocalModel",
    "Progress",
    "Reference",
    "Removal",
    "Terms",
    "adapter_of",
    "cache_folder",
    "check_duties",
    "duties_metadata",
    "duty_files",
    "find_starter_parts",
    "licence_of",
    "licence_of_published",
    "list_local_models",
    "parse_reference",
    "plan_removal",
    "pull",
    "resolve",
    "resolve_whole",
    "starter_path",
    "terms_of",
    "verify_starter",
    "write_duties",
]
