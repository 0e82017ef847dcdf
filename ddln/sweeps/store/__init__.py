"""Results that are kept: stores, their arrays, and the description of what was computed."""

from ddln.sweeps.store._fingerprint import describe_function as describe_function
from ddln.sweeps.store._fingerprint import describe_tree as describe_tree
from ddln.sweeps.store._folder import folder_at as folder_at
from ddln.sweeps.store._grid import Grid as Grid
from ddln.sweeps.store._open_store import OpenStore as OpenStore
from ddln.sweeps.store._open_store import open_group as open_group
from ddln.sweeps.store._store import SweepStatus as SweepStatus
from ddln.sweeps.store._store import SweepStore as SweepStore
from ddln.sweeps.store._stored_array import StoredArray as StoredArray
from ddln.sweeps.store._variables import MISSING as MISSING
from ddln.sweeps.store._variables import as_results as as_results
from ddln.sweeps.store._variables import attributes as attributes
from ddln.sweeps.store._variables import codes as codes
from ddln.sweeps.store._variables import decoded as decoded
from ddln.sweeps.store._variables import encoded as encoded
from ddln.sweeps.store._variables import inner_dims as inner_dims
from ddln.sweeps.store._variables import restored as restored
from ddln.sweeps.store._variables import variables as variables
from ddln.sweeps.store._writing import ChunkWriter as ChunkWriter
from ddln.sweeps.store._writing import layout as layout
from ddln.sweeps.store._writing import prepare as prepare
