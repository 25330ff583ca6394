"""Which conversations may hold caches at the same time."""

from mh_batch.engine.slots.admission import Admission, cache_bytes
from mh_batch.engine.slots.support import SlotSupport

SUPPORT = SlotSupport(position_bytes=(10, 100), windows=(128, None), vocabulary=300, most=None)


def test_caches_are_counted_as_they_grow_and_windows_bound_them() -> None:
    assert cache_bytes(SUPPORT, None, 1) == 10 * 128 + 100 * 256
    assert cache_bytes(SUPPORT, None, 256) == 10 * 128 + 100 * 256
    assert cache_bytes(SUPPORT, None, 257) == 10 * 128 + 100 * 512
    # a window over full attention leaves the model's own alone
    assert cache_bytes(SUPPORT, 64, 1000) == 10 * 128 + 100 * 64


def test_a_conversation_enters_when_it_fits_and_an_oversized_one_alone() -> None:
    admission = Admission(100)
    assert admission.admit(1, 60)
    assert not admission.admit(2, 41)
    assert admission.admit(3, 40)
    assert admission.nbytes == 100
    admission.release(1)
    admission.release(1)
    assert not admission.admit(4, 1000)
    admission.release(3)
    assert admission.admit(4, 1000)
    assert not admission.admit(5, 1)
