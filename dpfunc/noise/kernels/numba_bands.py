"""The two passes over memory of a feedback release, compiled: before the noise, and after it.

Whole numbers of the fine grid in float64, all of them exact: the numbers of the torch operations of
`dpfunc.noise.feedback`, in any order, whatever a compiler makes of them.
"""

import numpy as np

from dpfunc.noise.kernels.numba_machine import compiled, items_at, nearest

_CHUNK = 2048  # items that stay in the cache while all bands are added up
_f64 = np.float64


@compiled()
def add_bands(back, n0, n1, n2, n3, w0, w1, w2, w3):  # type: ignore[no-untyped-def]  # numba types it
    """Four bands at a time, which reads and writes ``back`` once."""
    for i in range(len(back)):
        first = w0 * _f64(n0[i]) + w1 * _f64(n1[i])
        back[i] += first + (w2 * _f64(n2[i]) + w3 * _f64(n3[i]))


@compiled()
def in_grid(out, own, back, inverse, step, per_step, fine):  # type: ignore[no-untyped-def]  # numba types it
    """``out = fine * (R mod coarse - back)``."""
    for i in range(len(out)):
        rounded = nearest(_f64(own[i]) * inverse)
        low = rounded - nearest(rounded * per_step) * step
        low = low if abs(low) <= step else 0.0  # NaN of what is not finite
        out[i] = (low - back[i]) * fine


@compiled()
def taken_back(first, last, sums, wanted, earlier, weights, settings, kind, whole):  # type: ignore[no-untyped-def]  # numba types it
    """``wanted = fine * (R mod coarse - sum_i weights[i] n_i)`` of items ``first`` to ``last``.

    ``sums``, ``wanted``, ``earlier``: addresses of items, of dtypes ``kind``, float64 and
    ``whole``; the newest noise first, with a weight for each, and a multiple of four of both.
    ``settings``: 1 / fine, coarse / fine, its inverse, fine.
    """
    inverse, step, per_step, fine = settings[0], settings[1], settings[2], settings[3]
    own, out = items_at(sums, last, kind), items_at(wanted, last, _f64)
    room = np.empty(_CHUNK)
    for begin in range(first, last, _CHUNK):
        end = min(begin + _CHUNK, last)
        back = room[: end - begin]
        back[:] = 0.0
        for band in range(0, len(earlier), 4):
            add_bands(
                back,
                items_at(earlier[band], last, whole)[begin:end],
                items_at(earlier[band + 1], last, whole)[begin:end],
                items_at(earlier[band + 2], last, whole)[begin:end],
                items_at(earlier[band + 3], last, whole)[begin:end],
                weights[band],
                weights[band + 1],
                weights[band + 2],
                weights[band + 3],
            )
        in_grid(out[begin:end], own[begin:end], back, inverse, step, per_step, fine)


@compiled()
def told_apart(first, last, sums, noisy, released, noise, most, settings, kind, whole):  # type: ignore[no-untyped-def]  # numba types it
    """What is released, and its noise in whole numbers; how many of these are beyond ``most``."""
    own, made = items_at(sums, last, kind)[first:last], items_at(noisy, last, _f64)[first:last]
    out, kept = items_at(released, last, kind)[first:last], items_at(noise, last, whole)[first:last]
    return parted(out, kept, own, made, most, settings, kind, whole)


@compiled()
def parted(out, kept, own, made, most, settings, kind, whole):  # type: ignore[no-untyped-def]  # numba types it
    """`told_apart` of arrays."""
    inverse, step, per_step, fine = settings[0], settings[1], settings[2], settings[3]
    beyond = 0
    for i in range(len(out)):
        rounded = nearest(_f64(own[i]) * inverse)
        high = nearest(rounded * per_step) * step
        low = rounded - high
        low = low if abs(low) <= step else 0.0
        number = made[i] * inverse
        mine = number - low
        beyond += 0 if abs(mine) <= most else 1
        kept[i] = whole(mine)
        # Adding 0 makes -0 to 0: its sign would tell of the sum.
        out[i] = kind((number + high + 0.0) * fine)
    return beyond
