"""Names for numpy arrays by their entries; shapes stand in docstrings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]
Text = NDArray[np.str_]
Object = NDArray[np.object_]
AnyFloat = NDArray[np.floating[Any]]
AnyInt = NDArray[np.integer[Any]]
