#include "view.h"

namespace dwf {

bool is_dense(const View& view) {
  if (view.size == 0) return true;
  std::int64_t expected = 1;
  int dim = view.ndim - 1;
  while (dim >= 0 && (view.shape[dim] == 1 || view.strides[dim] == expected)) expected *= view.shape[dim--];
  if (dim < 0) return true;  // the usual case, contiguous
  // In another order each dimension's stride is the size of all those with shorter strides.
  if (view.ndim > View::kMaxDims) return false;
  expected = 1;
  for (int left = view.ndim; left > 0; --left) {
    // The dimensions found so far have strides below `expected`, so the next one has exactly that.
    int found = -1;
    for (int d = 0; d < view.ndim; ++d)
      if (view.shape[d] > 1 && view.strides[d] == expected) found = d;
    if (found < 0) break;
    expected *= view.shape[found];
  }
  return expected == static_cast<std::int64_t>(view.size);
}

bool same_shape(const View& left, const View& right) {
  if (left.ndim != right.ndim) return false;
  for (int d = 0; d < left.ndim; ++d)
    if (left.shape[d] != right.shape[d]) return false;
  return true;
}

bool same_layout(const View& left, const View& right) {
  if (!same_shape(left, right)) return false;
  for (int d = 0; d < left.ndim; ++d)
    if (left.shape[d] > 1 && left.strides[d] != right.strides[d]) return false;
  return true;
}

}  // namespace dwf
