// Functions of lanes, accurate to a few units in the last place. The coefficients are minimax fits in double precision; each
// comment gives the fit's largest relative error, and rounding in single precision adds to it (tests measure both).

#pragma once

#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {

// exp(x - low) for a |low| of at most 0.1: what of an exact exponent did not fit into x.
DWF_INLINE Lanes exponential(Lanes x, Lanes low = Lanes{}) {
  // Outside this range the result is infinity or zero.
  x = at_most(at_least(x, broadcast(-104.0f)), broadcast(89.0f));
  // Adding 1.5 * 2^23 rounds to an integer, in the lowest bits.
  const Lanes magic = broadcast(12582912.0f);
  const Lanes shifted = x * 1.44269504f + magic;
  const Lanes count = shifted - magic;
  // ln 2 in two parts, of which the first has so few digits that its products are exact.
  Lanes r = x - count * 0.693145752f;
  r = r - count * 1.42860677e-6f - low;
  // exp(r) = 1 + r + r^2 q(r), |r| < 0.36: 4e-9
  Lanes q = r * 1.380884548e-03f + 8.371495577e-03f;
  q = q * r + 4.166866801e-02f;
  q = q * r + 1.666649684e-01f;
  q = q * r + 4.999999178e-01f;
  const Lanes p = (q * r) * r + r + 1.0f;
  // 2^n by its bits, in two halves, as n reaches beyond what one exponent can be.
  const Ints n = bits_of(shifted) - bits_of(magic);
  const Ints half = n >> 1;
  return p * floats_of((half + 127) << 23) * floats_of((n - half + 127) << 23);
}

DWF_INLINE Lanes sigmoid(Lanes x) { return 1.0f / (1.0f + exponential(-x)); }

DWF_INLINE Lanes silu(Lanes x) { return x / (1.0f + exponential(-x)); }

DWF_INLINE Lanes hyperbolic_tangent(Lanes x) {
  const Lanes z = x * x;
  // tanh(x) = x + x^3 q(x^2), |x| < 0.625: 4e-9
  Lanes q = z * -5.704978374e-03f + 2.063907874e-02f;
  q = q * z + -5.373971216e-02f;
  q = q * z + 1.333144216e-01f;
  q = q * z + -3.333328194e-01f;
  const Lanes small = (q * z) * x + x;
  const Lanes size = magnitude(x);
  const Lanes large = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
  const Lanes signed_large = floats_of(bits_of(large) | (bits_of(x) & static_cast<std::int32_t>(0x80000000)));
  return select(size < 0.625f, small, signed_large);  // NaN is in both
}

// x times the probability that a standard normal number is below x: torch's GELU. The left tail keeps its digits,
// which 1 + erf(x) would lose.
DWF_INLINE Lanes gelu(Lanes x) {
  const Lanes z = at_most(magnitude(x), broadcast(14.5f));  // beyond, the tail is below any float
  // tail(z) = exp(-z^2 / 2) p(u) with u = (z - 3) / (z + 3), 0 <= z <= 14.5: 9e-9
  const Lanes u = 1.0f - 6.0f / (z + 3.0f);
  Lanes p = u * 5.316190115e-05f + 1.150136577e-04f;
  p = p * u + -3.390128325e-04f;
  p = p * u + -9.832881973e-04f;
  p = p * u + 2.904387370e-03f;
  p = p * u + 6.131942278e-03f;
  p = p * u + -4.621326362e-02f;
  p = p * u + 1.232250412e-01f;
  p = p * u + -2.064026204e-01f;
  p = p * u + 1.215139475e-01f;
  // z^2 / 2 in two parts: the square of z's upper digits, which is exact, and the rest.
  const Lanes upper = floats_of(bits_of(z) & static_cast<std::int32_t>(0xfffff000));
  const Lanes tail = p * exponential(upper * upper * -0.5f, (z - upper) * (z + upper) * 0.5f);
  return x * select(x < 0.0f, tail, 1.0f - tail);
}

// torch's GELU by the hyperbolic tangent, (1 + tanh(v)) / 2 being the sigmoid of 2 v.
DWF_INLINE Lanes gelu_by_tangent(Lanes x) {
  const Lanes v = 0.797884561f * (x + 0.044715f * (x * x * x));
  return x / (1.0f + exponential(-2.0f * v));
}

}  // namespace DWF_ISA
}  // namespace dwf
