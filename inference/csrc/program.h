// A graph that is ready to run. Nothing in it changes any more, so several threads may run it at once.

#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "arena.h"
#include "instruction_set.h"
#include "layout.h"
#include "op.h"

namespace dwf {

class Program {
 public:
  // widest: the most lanes of a tile. layouts: of every value. inputs and outputs: which values the caller gives and gets, without repetition.
  // ops: in order, each after those that make its inputs.
  Program(InstructionSet set, std::size_t widest, std::vector<Layout> layouts, std::vector<std::unique_ptr<const Op>> ops,
          std::vector<int> inputs, std::vector<int> outputs);

  // Row-major in and out: each input and output is [batch][features].
  void run(const float* const* inputs, float* const* outputs, std::size_t batch, int threads) const;

  // In the kernels' own layout: each input and output is [tiles][features][lanes], aligned to 64 bytes.
  void run_tiles(const float* const* inputs, float* const* outputs, std::size_t tiles, std::size_t lanes,
                 int threads) const;

  InstructionSet set() const { return set_; }
  std::size_t widest() const { return widest_; }
  const std::vector<Layout>& layouts() const { return layouts_; }
  const std::vector<std::unique_ptr<const Op>>& ops() const { return ops_; }
  const std::vector<int>& inputs() const { return inputs_; }
  const std::vector<int>& outputs() const { return outputs_; }
  // Bytes of one arena.
  std::size_t arena_bytes(std::size_t lanes) const { return floats(lanes) * sizeof(float); }

 private:
  // How the caller's arrays are bound to tiles.
  struct Call {
    const float* const* inputs;
    float* const* outputs;
    std::size_t batch;  // samples
    bool native;        // in the kernels' own layout
  };

  void place_values();
  void find_stored();
  std::size_t floats(std::size_t lanes) const;
  std::unique_ptr<Arena> take_arena(std::size_t lanes) const;
  void put_arena(std::unique_ptr<Arena> arena, std::size_t lanes) const;
  // Whole tiles of `lanes` samples, and the others by `rest`.
  void run_all(const Call& call, std::size_t lanes, std::size_t rest, int threads) const;
  void run_tile(const Call& call, std::size_t first, std::size_t lanes, Arena& arena) const;

  const InstructionSet set_;
  const std::size_t widest_;
  const std::vector<Layout> layouts_;
  const std::vector<std::unique_ptr<const Op>> ops_;
  const std::vector<int> inputs_, outputs_;
  std::vector<std::size_t> offsets_;  // of each value in an arena, in positions
  std::size_t positions_ = 0;         // of all values together
  std::vector<int> stored_;           // by op: which output it stores as rows of samples, or -1
  // Samples that are faster one by one than in a tile that is mostly empty; images are not.
  std::size_t most_alone_ = 3;
  mutable ArenaPool arenas_[4];       // by lanes, as in kTileLanes
};

}  // namespace dwf
