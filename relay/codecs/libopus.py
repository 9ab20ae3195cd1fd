"""The C interface of libopus, found inside the av wheel or on the system, declared once for `relay.codecs.opus`.

The calls are ctypes `CDLL` calls on purpose: they release the GIL, so that threads which each hold a chunk of a tick's
legs code truly side by side.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from importlib.util import find_spec
from pathlib import Path

from relay.errors import OperatorError


def load() -> ctypes.CDLL:
    """Load libopus and declare its functions; raises `OperatorError`."""
    path = bundled_path() or ctypes.util.find_library("opus")
    if path is None:
        raise OperatorError(
            "libopus was not found: install PyAV from its wheel (pip install --only-binary=av av), which brings it "
            "along, or the system's package (Debian: apt install libopus0)"
        )
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise OperatorError(f"libopus at {path} cannot be used ({error}); reinstall PyAV or libopus0") from error
    return library


def bundled_path() -> Path | None:
    """Where the av wheel keeps its own libopus (auditwheel's and delocate's places), if it does."""
    spec = find_spec("av")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    places = ((package.parent / "av.libs", "libopus[-.]*so*"), (package / ".dylibs", "libopus*.dylib"))
    return next((path for folder, pattern in places for path in sorted(folder.glob(pattern))), None)


_POINTER = ctypes.c_void_p
_INT = ctypes.c_int
_SIZE = ctypes.c_int32
_ERROR = ctypes.POINTER(ctypes.c_int)

# The ctl functions are variadic: only the fixed arguments are declared, and ctypes then passes the rest as such.
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "opus_strerror": (ctypes.c_char_p, [_INT]),
    "opus_get_version_string": (ctypes.c_char_p, []),
    "opus_decoder_create": (_POINTER, [_SIZE, _INT, _ERROR]),
    "opus_decoder_destroy": (None, [_POINTER]),
    "opus_decode": (_INT, [_POINTER, _POINTER, _SIZE, _POINTER, _INT, _INT]),
    "opus_decoder_ctl": (_INT, [_POINTER, _INT]),
    "opus_encoder_create": (_POINTER, [_SIZE, _INT, _INT, _ERROR]),
    "opus_encoder_destroy": (None, [_POINTER]),
    "opus_encode": (_SIZE, [_POINTER, _POINTER, _INT, _POINTER, _SIZE]),
    "opus_encoder_ctl": (_INT, [_POINTER, _INT]),
    "opus_packet_get_nb_samples": (_INT, [_POINTER, _SIZE, _SIZE]),
    "opus_packet_parse": (_INT, [_POINTER, _SIZE, _POINTER, _POINTER, _POINTER, _POINTER]),
    "opus_packet_get_nb_frames": (_INT, [_POINTER, _SIZE]),
}
