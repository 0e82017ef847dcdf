"""Results that are kept: stores, their arrays, and the description of what was computed."""

from ddln.sweeps.store._array_spec import DTYPES as DTYPES
from ddln.sweeps.store._array_spec import ArraySpec as ArraySpec
from ddln.sweeps.store._fingerprint import describe_function as describe_function
from ddln.sweeps.store._fingerprint import describe_tree as describe_tree
from ddln.sweeps.store._fingerprint import differences as differences
from ddln.sweeps.store._fingerprint import fingerprint as fingerprint
from ddln.sweeps.store._folder import AbstractFolder as AbstractFolder
from ddln.sweeps.store._folder import folder as folder
from ddln.sweeps.store._grid import Grid as Grid
from ddln.sweeps.store._header import FORMAT as FORMAT
from ddln.sweeps.store._header import Header as Header
from ddln.sweeps.store._store import SweepStatus as SweepStatus
from ddln.sweeps.store._store import SweepStore as SweepStore
from ddln.sweeps.store._store import chunk_key as chunk_key
from ddln.sweeps.store._store import damage as damage
from ddln.sweeps.store._store import layout as layout
from ddln.sweeps.store._store import versions as versions
from ddln.sweeps.store._stored_array import StoredArray as StoredArray
from ddln.sweeps.store._variables import MARK as MARK
from ddln.sweeps.store._variables import MISSING as MISSING
from ddln.sweeps.store._variables import as_results as as_results
from ddln.sweeps.store._variables import attributes as attributes
from ddln.sweeps.store._variables import codes as codes
from ddln.sweeps.store._variables import inner_dims as inner_dims
from ddln.sweeps.store._variables import restored as restored
from ddln.sweeps.store._variables import variables as variables
