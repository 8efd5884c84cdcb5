#include "program.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <utility>

#include "denormals.h"
#include "kernels/transpose.h"
#include "pool.h"

namespace dwf {
namespace {

// Positions are counted in whole cache lines, so that values are aligned with any number of lanes.
constexpr std::size_t kLine = kAlignment / sizeof(float);

std::size_t round_up(std::size_t size) { return (size + kLine - 1) / kLine * kLine; }

std::size_t index_of(std::size_t lanes) {
  return static_cast<std::size_t>(std::find(std::begin(kTileLanes), std::end(kTileLanes), lanes) - std::begin(kTileLanes));
}

Gaps gaps_of(const Layout& layout) {
  if (layout.dense()) return {layout.features(), 1, 0, 0};
  return {layout.width, layout.height, 2 * layout.border_columns, 2 * layout.border_rows * layout.stored_width()};
}

// Rows of images are a few cache lines, for which calling memcpy would take longer than to copy them.
void copy(const float* from, std::size_t size, float* to) {
  std::size_t i = 0;
  for (; i + kLine <= size; i += kLine) std::memcpy(to + i, from + i, kLine * sizeof(float));
  for (; i < size; ++i) to[i] = from[i];
}

// A stretch of memory that values use one after the other. Those with a border of zeros share only with their like, which
// leave the border as it is.
struct Stretch {
  Layout layout;
  std::size_t positions;
  bool free;
  bool takes(const Layout& other) const {
    return free && (layout.dense() ? other.dense() : layout == other);
  }
};

}  // namespace

Program::Program(InstructionSet set, std::size_t widest, std::vector<Layout> layouts, std::vector<std::unique_ptr<const Op>> ops,
                 std::vector<int> inputs, std::vector<int> outputs)
    : set_(set),
      widest_(widest),
      layouts_(std::move(layouts)),
      ops_(std::move(ops)),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)) {
  place_values();
  find_stored();
  for (const Layout& layout : layouts_)
    if (layout.height * layout.width > 1) most_alone_ = 1;
}

// Greedy: each value takes the smallest stretch that is free and large enough, or makes the largest free one larger.
void Program::place_values() {
  const std::size_t last = ops_.size();
  std::vector<std::size_t> last_use(layouts_.size(), 0);
  for (std::size_t i = 0; i < last; ++i)
    for (const int value : ops_[i]->inputs) last_use[value] = i;
  for (const int value : outputs_) last_use[value] = last;

  std::vector<Stretch> stretches;
  std::vector<std::size_t> stretch_of(layouts_.size(), 0);
  const auto place = [&](int value) {
    const Layout& layout = layouts_[value];
    const std::size_t size = round_up(layout.positions());
    std::size_t best = stretches.size();
    for (std::size_t s = 0; s < stretches.size(); ++s) {
      if (!stretches[s].takes(layout)) continue;
      if (best == stretches.size()) {
        best = s;
        continue;
      }
      const std::size_t now = stretches[best].positions, other = stretches[s].positions;
      if (now < size ? other > now : other >= size && other < now) best = s;
    }
    if (best == stretches.size()) stretches.push_back({layout, 0, false});
    stretches[best].positions = std::max(stretches[best].positions, size);
    stretches[best].free = false;
    stretch_of[value] = best;
  };
  for (const int value : inputs_) place(value);
  for (std::size_t i = 0; i < last; ++i) {
    const Op& op = *ops_[i];
    const auto ends_here = [&](int value) { return last_use[value] == i; };
    int replaced = -1;
    if (op.in_place())
      for (const int value : op.inputs)
        if (ends_here(value) && layouts_[value] == layouts_[op.output]) replaced = value;
    if (replaced >= 0) {
      stretch_of[op.output] = stretch_of[replaced];
    } else {
      place(op.output);
    }
    for (const int value : op.inputs)
      if (ends_here(value) && value != replaced) stretches[stretch_of[value]].free = true;
  }

  std::vector<std::size_t> begins;
  for (const Stretch& stretch : stretches) {
    begins.push_back(positions_);
    positions_ += stretch.positions;
  }
  for (const std::size_t stretch : stretch_of) offsets_.push_back(stretches.empty() ? 0 : begins[stretch]);
}

void Program::find_stored() {
  stored_.assign(ops_.size(), -1);
  for (std::size_t k = 0; k < outputs_.size(); ++k) {
    const int value = outputs_[k];
    const auto reads = [&](const auto& op) { return std::count(op->inputs.begin(), op->inputs.end(), value) > 0; };
    if (!layouts_[value].dense() || std::any_of(ops_.begin(), ops_.end(), reads)) continue;
    for (std::size_t i = 0; i < ops_.size(); ++i)
      if (ops_[i]->output == value && ops_[i]->stores_rows()) stored_[i] = static_cast<int>(k);
  }
}

std::size_t Program::floats(std::size_t lanes) const {
  std::size_t scratch = 0;
  for (const auto& op : ops_) scratch = std::max(scratch, op->scratch(lanes));
  return positions_ * lanes + scratch;
}

std::unique_ptr<Arena> Program::take_arena(std::size_t lanes) const {
  std::unique_ptr<Arena> arena = arenas_[index_of(lanes)].take();
  return arena != nullptr ? std::move(arena) : std::make_unique<Arena>(floats(lanes), layouts_.size());
}

void Program::put_arena(std::unique_ptr<Arena> arena, std::size_t lanes) const {
  arenas_[index_of(lanes)].put(std::move(arena));
}

void Program::run_tile(const Call& call, std::size_t first, std::size_t lanes, Arena& arena) const {
  const std::size_t samples = std::min(lanes, call.batch - first);
  // A lone sample is a row of features, and a tile of the kernels' own layout is what they want.
  const bool direct = lanes == 1 || call.native;
  float** const places = arena.places.data();
  float* const memory = arena.memory.data();
  for (std::size_t v = 0; v < layouts_.size(); ++v) places[v] = memory + offsets_[v] * lanes;

  for (std::size_t k = 0; k < inputs_.size(); ++k) {
    const Layout& layout = layouts_[inputs_[k]];
    const float* const from = call.inputs[k] + first * layout.features();
    float*& place = places[inputs_[k]];
    if (direct && layout.dense()) {
      place = const_cast<float*>(from);  // no op writes to an input of the graph
    } else if (direct) {
      for (std::size_t c = 0; c < layout.channels; ++c)
        for (std::size_t h = 0; h < layout.height; ++h)
          copy(from + (c * layout.height + h) * layout.width * lanes, layout.width * lanes,
               place + layout.position(c, h, 0) * lanes);
    } else {
      DWF_KERNEL(set_, pack_lanes)(from, layout.features(), samples, layout.features(), lanes, gaps_of(layout),
                                   place + layout.position(0) * lanes);
    }
  }
  for (std::size_t k = 0; k < outputs_.size(); ++k)
    if (direct && layouts_[outputs_[k]].dense())
      places[outputs_[k]] = call.outputs[k] + first * layouts_[outputs_[k]].features();

  Tile tile{lanes, places, memory + positions_ * lanes, {}};
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    tile.rows = {};
    if (!direct && stored_[i] >= 0) {
      const std::size_t features = layouts_[ops_[i]->output].features();
      tile.rows = {call.outputs[stored_[i]] + first * features, features, samples};
      places[ops_[i]->output] = tile.rows.to;
    }
    ops_[i]->run(tile);
  }

  for (std::size_t k = 0; k < outputs_.size(); ++k) {
    const Layout& layout = layouts_[outputs_[k]];
    float* const to = call.outputs[k] + first * layout.features();
    const float* const place = places[outputs_[k]];
    if (place == to) continue;
    if (direct) {
      for (std::size_t c = 0; c < layout.channels; ++c)
        for (std::size_t h = 0; h < layout.height; ++h)
          copy(place + layout.position(c, h, 0) * lanes, layout.width * lanes,
               to + (c * layout.height + h) * layout.width * lanes);
    } else {
      DWF_KERNEL(set_, unpack_lanes)(place + layout.position(0) * lanes, lanes, samples, layout.features(),
                                     layout.features(), gaps_of(layout), to);
    }
  }
}

void Program::run_all(const Call& call, std::size_t lanes, std::size_t rest, int threads) const {
  const std::size_t whole = call.batch / lanes, left = call.batch % lanes;
  const std::size_t tiles = whole + (left + rest - 1) / rest;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  const auto work = [&] {
    const Denormals exact(false);
    try {
      std::unique_ptr<Arena> arena;
      std::size_t held = 0;
      for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
        const std::size_t width = i < whole ? lanes : rest;
        if (held != width) {
          if (arena != nullptr) put_arena(std::move(arena), held);
          arena = take_arena(width);
          held = width;
        }
        run_tile(call, i < whole ? i * lanes : whole * lanes + (i - whole) * rest, width, *arena);
      }
      if (arena != nullptr) put_arena(std::move(arena), held);
    } catch (...) {  // no memory for an arena; a thread of the pool must not end by it
      if (!failed.exchange(true)) failure = std::current_exception();
      next.store(tiles, std::memory_order_relaxed);
    }
  };
  if (threads > 1 && tiles > 1) {
    run_on_threads(static_cast<int>(std::min<std::size_t>(threads, tiles)), work);
  } else {
    work();
  }
  if (failed) std::rethrow_exception(failure);
}

void Program::run(const float* const* inputs, float* const* outputs, std::size_t batch, int threads) const {
  // Whole tiles of the widest kind; what is left goes into the narrowest tile that holds it, or is run sample by sample. The
  // cuts do not depend on the number of threads.
  const std::size_t left = batch % widest_;
  std::size_t rest = widest_;
  for (const std::size_t lanes : kTileLanes)
    if (left <= lanes) {
      rest = std::min(rest, lanes);
      break;
    }
  if (left <= most_alone_) rest = 1;
  run_all({inputs, outputs, batch, false}, widest_, rest, threads);
}

void Program::run_tiles(const float* const* inputs, float* const* outputs, std::size_t tiles, std::size_t lanes,
                        int threads) const {
  run_all({inputs, outputs, tiles * lanes, true}, lanes, lanes, threads);
}

}  // namespace dwf
