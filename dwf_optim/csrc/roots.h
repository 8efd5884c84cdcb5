// Roots and powers of lanes, for weights that have one root instead of factors (dwf_optim/roots.py).

#pragma once

#include "lanes.h"

namespace dwf {
namespace DWF_ISA {

// D where it is known to the compiler; deeper weights share code that counts at run time, for which D is 0.
template <int D>
struct Depth {
  int number;

  explicit Depth(int depth) : number(D > 0 ? D : depth) {}
  operator int() const { return D > 0 ? D : number; }
  bool odd() const { return *this % 2 == 1; }
  // The sign that a weight has apart from its root, as a bit: at even depth.
  Mask sign_apart(Lanes weight) const { return odd() ? Mask{} : sign_bits(weight); }
};

// What the root stands for.
template <int D>
DWF_INLINE Lanes power(Lanes root, Mask sign_apart, const Depth<D>& depth) {
  Lanes raised = root;
  for (int d = 1; d < depth; ++d) raised *= root;
  return reinterpret_cast<Lanes>(reinterpret_cast<Mask>(raised) | sign_apart);
}

// Takes 1 / root of weights, with the weight's sign at odd depth: to 3 roundings (3 U with U = 2^-24) for normal numbers.
// For zero it is finite and means nothing.
//
// The bits of a float, read as an integer, are its logarithm plus at most 0.086 of a power of two. Half of that taken
// off on each side, the start y has h = 1 - w y^D within 3.1 %. From there
//     w^{-1/D} = y (1 - h)^{-1/D} = y + y h (c1 + c2 h + c3 h^2 + ...),
// cut off after c3; the term with c4 h^4 is made up for by a part of c2 but for 0.18 c4 (0.031)^4 < 0.8 U. Rounded: h, by
// D U, of which a D-th goes into the root; the last sum, by U; and what is small against that.
template <int D>
struct InverseRoot {
  float start, slope, c1, c2, c3;

  explicit InverseRoot(const Depth<D>& depth) {
    const float d = static_cast<float>(static_cast<int>(depth)), largest = 0.031f;
    const float c4 = (1 / d) * ((1 + d) / (2 * d)) * ((1 + 2 * d) / (3 * d)) * ((1 + 3 * d) / (4 * d));
    slope = -1 / d;
    start = (1 + 1 / d) * (1065353216.0f - 361007.0f);  // 2^23 (127 - 0.043)
    c1 = 1 / d;
    c2 = c1 * ((1 + d) / (2 * d)) + 0.828f * largest * largest * c4;  // 0.828: least error on [-largest, largest]
    c3 = c1 * ((1 + d) / (2 * d)) * ((1 + 2 * d) / (3 * d));
  }

  // Several registers at a time: each waits for its own results only.
  template <int N>
  DWF_INLINE_MEMBER void operator()(const Lanes (&weight)[N], Lanes (&y)[N], const Depth<D>& depth) const {
    Lanes h[N];
    for (int n = 0; n < N; ++n) {
      const Lanes bits = __builtin_convertvector(reinterpret_cast<Mask>(magnitude(weight[n])), Lanes);
      const Mask size = __builtin_convertvector(start + slope * bits, Mask);
      y[n] = reinterpret_cast<Lanes>(depth.odd() ? size | sign_bits(weight[n]) : size);
    }
    for (int n = 0; n < N; ++n) {
      Lanes one = depth.odd() ? weight[n] : magnitude(weight[n]);
      for (int d = 0; d < depth; ++d) one *= y[n];
      h[n] = 1.0f - one;
    }
    for (int n = 0; n < N; ++n) y[n] += (y[n] * h[n]) * (c1 + h[n] * (c2 + h[n] * c3));
  }
};

}  // namespace DWF_ISA
}  // namespace dwf
