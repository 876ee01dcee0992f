"""The taps of a C++ kernel: statements that record something besides its output, printed only where it is asked for."""

from __future__ import annotations

from ..layout import TAPS, supports

__all__ = ["statements"]


def statements(taps: frozenset[str], y: str, h: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """The statements of the taps that are on: before the time loop, per neuron, per step, after the loop."""
    begin, step, row, end = [], [], [], []
    if "count" in taps:
        begin.append("alignas(64) Counted<sizeof(io)>::type count_[B] = {};")
        step.append(f"if (sizeof count_[i] > 1) count_[i] += {y} != 0 ? -1 : 0;")
        row.append("count_row(yt, e, count_);")
        row.append("if (t % 255 == 254 && t + 1 < T) carry_counts(TAP[0], t, o, e, count_);")
        end.append("store_counts(TAP[0], T, o, e, count_);")
    if "packed" in taps:
        row.append("if (ahead) fetch_to_write((uint8_t*)TAP[1] + u * ((n + 7) / 8) + at / 8, B / 8);")
        row.append("pack(yt, e, (uint8_t*)TAP[1] + t * ((n + 7) / 8) + o / 8);")
    if "h" in taps:
        step.append(f"((real*)TAP[2])[t * n + o + i] = {h};")
    if "range" in taps:
        begin.append("alignas(64) real low_[B], high_[B], sum_[B] = {};")
        begin.append("for (long i = 0; i < B; i++) { low_[i] = real(INFINITE); high_[i] = -real(INFINITE); }")
        step.append(f"low_[i] = minimum<real>({h}, low_[i]);")
        step.append(f"high_[i] = maximum<real>({h}, high_[i]);")
        step.append(f"sum_[i] += {h};")
        end.append("store_range((double*)TAP[3] + o / B * 3, e, low_, high_, sum_);")
    for j, _ in enumerate(supports(taps)):
        begin.append(f"alignas(64) int32_t inside{j}_[B] = {{}};")
        step.append(f"{{ const real off = {h} - real(W[{3 * j}]);")
        step.append(f"  inside{j}_[i] += (off >= real(W[{3 * j + 1}])) & (off <= real(W[{3 * j + 2}])); }}")
        end.append(f"((int64_t*)TAP[{len(TAPS) + j}])[o / B] = (int64_t)total(inside{j}_, e);")
    return begin, step, row, end
