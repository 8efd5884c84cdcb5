// What a graph is made of.
//
// To add one, say `pool`:
//   kernels/pool.h    declares the inner loop, once for each instruction set (DWF_FOR_EACH_SET in instruction_set.h)
//   kernels/pool.cpp  is that loop, on lanes.h's registers; add it to the kernels' SOURCES in CMakeLists.txt
//   ops/pool.cpp      is the class of Op and `void bind_pool(nb::class_<Builder>&)`, which gives Builder a method that checks
//                     its arguments (inputs.h), prepacks weights and calls builder.add(); add it to add_extension in
//                     CMakeLists.txt, a line to ops/bind.h, and the method to inference/_native.pyi
//   inference/lowering/  a line in LOWERINGS for the node of the graph that becomes it

#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "layout.h"

namespace dwf {

// One tile of samples on its way through a graph.
struct Tile {
  std::size_t lanes;     // one of kTileLanes
  float* const* values;  // where each value begins
  float* scratch;        // as much as the op asks for, aligned to 64 bytes; holds garbage
  Rows rows;             // where an op that can stores its output instead; null for others
};

class Op {
 public:
  Op(std::vector<int> inputs, int output) : inputs(std::move(inputs)), output(output) {}
  virtual ~Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;

  // Computes the output from the inputs. Several threads run one op on tiles of their own.
  //
  // With more than one lane, values are aligned to 64 bytes, and an op reads and writes whole lanes, whatever number of
  // samples is in the tile (the rest are zeros at the graph's inputs). With one lane they may be the caller's own arrays,
  // not aligned to more than 4 bytes, and nothing may be read or written behind their last position.
  //
  // An op writes all features of its output, and never its border: that is zero already.
  virtual void run(const Tile& tile) const = 0;

  // Floats of scratch that it needs.
  virtual std::size_t scratch(std::size_t lanes) const {
    static_cast<void>(lanes);
    return 0;
  }

  // Whether the output may take the place of an input of the same layout: each element depends on that element only.
  virtual bool in_place() const { return false; }

  // Whether it can store an output that nothing else reads as rows of samples: while what it has computed is in the first cache.
  virtual bool stores_rows() const { return false; }

  // For reports: the kernel's name, and the bytes of its weights as packed.
  virtual const char* kernel() const = 0;
  virtual std::size_t bytes() const { return 0; }

  const std::vector<int> inputs;
  const int output;
};

}  // namespace dwf
