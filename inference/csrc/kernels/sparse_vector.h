// A sparse matrix times one sample: rows side by side in a register.

#pragma once

#include <cstddef>
#include <cstdint>

#include "instruction_set.h"

namespace dwf {

// Rows to a slice: the lanes of the widest register that looks up inputs.
constexpr std::size_t rows_to_slice(InstructionSet set) {
  return set == InstructionSet::avx512 ? 16 : set == InstructionSet::avx2 ? 8 : 1;
}

// Slices of rows with about equally many terms; term k of all of a slice's rows stands side by side. What fills up short rows is not
// read.
struct Slices {
  std::size_t rows;
  const std::uint32_t* begins;    // of each slice, and the end; in terms side by side
  const std::uint32_t* shortest;  // of each slice, the least number of terms in a row
  const std::int32_t* terms;      // of each row, how many; filled up with rows of none
  const std::int32_t* positions;
  const float* weights;
  const float* bias;              // of each row
  const std::uint32_t* outputs;   // of each row, where its sum goes
};

// The same slices cut into steps that look no further than a window of inputs, which are looked up in registers: each step takes up
// to as many terms of each row. A row that has fewer looks up a zero, beyond the window, so that what an input holds that it has
// no weight for never matters.
constexpr std::size_t kStepTerms[] = {2, 4};

// Inputs in a window: two registers less the zero, or one; 0 for sets that look nothing up in registers.
constexpr std::size_t window_of(InstructionSet set) {
  return set == InstructionSet::avx512 ? 31 : set == InstructionSet::avx2 ? 7 : 0;
}

struct Steps {
  std::size_t rows;
  std::size_t terms;               // of a row in a step: one of kStepTerms
  const std::uint32_t* begins;     // of each slice, and the end; in steps
  const std::uint32_t* windows;    // of each step, the first position of its window
  const std::uint32_t* places;     // of each row in each step, its terms' places in the window, 8 bits each
  const float* weights;
  const float* bias;
  const std::uint32_t* outputs;
};

DWF_FOR_EACH_SET(
    void gather_vector(const Slices& slices, const float* from, bool relu, float* to);
    // Where there are windows.
    void permute_vector(const Steps& steps, const float* from, bool relu, float* to);)

}  // namespace dwf
