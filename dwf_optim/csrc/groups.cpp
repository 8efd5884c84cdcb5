#include "groups.h"

#include <algorithm>
#include <cstddef>

namespace dwf {
namespace {

struct Dim {
  std::int64_t size, stride;  // of the weight
};

// The weight's dimensions with one split, or false if that does not work out.
bool split_dims(const View& weight, const Split& split, std::vector<Dim>& dims) {
  for (int d = 0; d < weight.ndim; ++d) {
    if (split.parts.empty() || d != split.dim) {
      dims.push_back({weight.shape[d], weight.strides[d]});
      continue;
    }
    std::int64_t known = 1, last = 1;
    for (const std::int64_t part : split.parts) known *= part == -1 ? 1 : part;
    if (known < 1 || weight.shape[d] % known != 0) return false;
    std::vector<Dim> parts;
    for (std::size_t i = split.parts.size(); i-- > 0;) {
      const std::int64_t size = split.parts[i] == -1 ? weight.shape[d] / known : split.parts[i];
      parts.push_back({size, weight.strides[d] * last});
      last *= size;
    }
    if (last != weight.shape[d]) return false;
    dims.insert(dims.end(), parts.rbegin(), parts.rend());
  }
  return true;
}

}  // namespace

bool find_groups(const View& weight, const View& gate, const Split& split, Groups& groups) {
  std::vector<Dim> dims;
  if (weight.size == 0 || !split_dims(weight, split, dims)) return false;
  if (gate.ndim != static_cast<int>(dims.size())) return false;
  std::vector<int> order;
  for (int d = 0; d < gate.ndim; ++d) {
    if (gate.shape[d] != dims[d].size && gate.shape[d] != 1) return false;
    if (dims[d].size > 1) order.push_back(d);
  }
  std::sort(order.begin(), order.end(), [&](int a, int b) { return dims[a].stride < dims[b].stride; });
  // From the shortest stride to the longest.
  groups = {1, 1, 1};
  enum { inner, count, outer } now = inner;
  for (const int d : order) {
    const std::size_t size = static_cast<std::size_t>(dims[d].size);
    if (gate.shape[d] == 1) {
      if (now == count) now = outer;
      (now == inner ? groups.inner : groups.outer) *= size;
      continue;
    }
    if (now == outer || gate.strides[d] != static_cast<std::int64_t>(groups.count)) return false;
    now = count;
    groups.count *= size;
  }
  return true;
}

}  // namespace dwf
