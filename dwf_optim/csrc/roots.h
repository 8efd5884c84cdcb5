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

// Takes 1 / root of weights, with the weight's sign at odd depth: to 4 U of normal numbers, U = 2^-24. For zero it is finite
// and means nothing.
//
// The bits of a float, read as an integer, are its logarithm to the base 2 but for up to 0.086, so 1 / root has about
// 1 / D of them: h = 1 - w y^D is below 0.0375 D. From there w^{-1/D} = y (1 - h)^{-1/D} = y (1 + c1 h + c2 h^2 + c3 h^3 ...),
// twice: cut off after h, which leaves about D c2 h^2 / 2, and after h^2, which leaves c3 h^3 / 4, below U. (The next
// term of either series is made up for as well as a lower one can, by Chebyshev: h^2 by 1/2, h^3 by 3/4 h, relative to
// the largest.) Rounded are then h, by D U, of which a D-th goes into the root; the last sum, by U; and what is small
// against these.
template <int D>
struct InverseRoot {
  float start, slope;   // from the bits
  float begin0, begin1;  // y (begin0 - begin1 w y^D)
  float c1, c2;

  explicit InverseRoot(const Depth<D>& depth) {
    const float d = static_cast<float>(static_cast<int>(depth));
    const float t1 = 1 / d, t2 = t1 * (1 + d) / (2 * d), t3 = t2 * (1 + 2 * d) / (3 * d);
    const float h = 0.034f * d, left = d * t2 * h * h / 2;  // the largest, typically, and of it after the first time
    slope = -1 / d;
    start = (1 + 1 / d) * (127 - 0.05f) * 0x1p23f;
    begin1 = t1 + 0.75f * t3 * h * h;
    begin0 = 1 + t2 * h * h / 2 + begin1;
    c1 = t1 + 0.75f * t3 * left * left;
    c2 = t2;
  }

  // Several registers at a time: each waits for its own results only.
  template <int N>
  DWF_INLINE_MEMBER void operator()(const Lanes (&weight)[N], Lanes (&y)[N], const Depth<D>& depth) const {
    for (int n = 0; n < N; ++n) {
      const Lanes bits = __builtin_convertvector(reinterpret_cast<Mask>(magnitude(weight[n])), Lanes);
      const Mask root = __builtin_convertvector(start + slope * bits, Mask);
      y[n] = reinterpret_cast<Lanes>(depth.odd() ? root | sign_bits(weight[n]) : root);
    }
    for (int n = 0; n < N; ++n) y[n] *= begin0 - begin1 * one(weight[n], y[n], depth);
    for (int n = 0; n < N; ++n) {
      const Lanes h = 1.0f - one(weight[n], y[n], depth);
      y[n] += (y[n] * h) * (c1 + h * c2);
    }
  }

 private:
  // w y^D
  static DWF_INLINE_MEMBER Lanes one(Lanes weight, Lanes y, const Depth<D>& depth) {
    Lanes product = depth.odd() ? weight : magnitude(weight);
    for (int d = 0; d < depth; ++d) product *= y;
    return product;
  }
};

}  // namespace DWF_ISA
}  // namespace dwf
