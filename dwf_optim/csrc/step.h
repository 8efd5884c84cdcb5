// One step of many weights.

#pragma once

#include <cstddef>
#include <vector>

#include "slot.h"

namespace dwf {

// Elements (or groups) [begin, end) of a slot.
struct Range {
  std::size_t slot, begin, end;
};

// Counts a step of Adam and sets the slots' rates from it.
void count_step(std::vector<Slot>& slots, const Options& options);

// Steps the given ranges on several threads and returns the parts that are left because their weight is no longer the
// product of its factors, in order.
std::vector<Range> step_ranges(const std::vector<Slot>& slots, const Options& options, Kernel kernel,
                               const std::vector<Range>& ranges, int threads);

// All of all slots.
std::vector<Range> whole(const std::vector<Slot>& slots);

}  // namespace dwf
