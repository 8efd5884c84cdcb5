// Finding the groups of a weight in memory.

#pragma once

#include <cstdint>
#include <vector>

#include "slot.h"
#include "view.h"

namespace dwf {

// A dimension that is looked at as several, as by Tensor.unflatten, before groups are told apart; not one if there are no
// parts. One of the parts may be -1.
struct Split {
  int dim;
  std::vector<std::int64_t> parts;
};

// Finds the groups that share the elements of a gate. Returns false if the gate does not belong to this weight, or if in the
// order of memory there are not at most three dimensions: within a group, by group, and within a group again. The weight
// has to be dense.
bool find_groups(const View& weight, const View& gate, const Split& split, Groups& groups);

}  // namespace dwf
