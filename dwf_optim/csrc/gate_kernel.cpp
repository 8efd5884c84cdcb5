// One step of whole groups of a weight with gates (dwf_optim/gates.py).
//
// A gate's gradient is a sum over its group, which has to be known before anything is moved; so a group is gone through
// twice. Contiguous groups are still in cache the second time. Compiled once per instruction set, like kernel.cpp.

#include <cstring>

#include "denormals.h"
#include "half.h"
#include "kernel.h"
#include "lanes.h"
#include "rest.h"
#include "rule.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Elements worked on at a time; see kernel.cpp. As many small groups as fit are stepped side by side.
constexpr std::size_t kTile = 1024;

// How many elements ahead memory is asked for.
constexpr std::size_t kAhead = 128;

// Numbers that are added up in single precision, before the sum goes on in double. This, and the order, are the same for
// all instruction sets.
constexpr std::size_t kMostAdded = 64;
constexpr std::size_t kSums = 16;

// Contiguous elements.
struct Tile {
  std::size_t begin, size;
};

double sum(const float* numbers, std::size_t size) {
  double sums[kSums] = {};
  std::size_t i = 0;
  for (; i + kSums <= size; i += kSums)
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += numbers[i + j];
  for (std::size_t j = 0; i + j < size; ++j) sums[j] += numbers[i + j];
  double total = 0;
  for (std::size_t j = 0; j < kSums; ++j) total += sums[j];
  return total;
}

// Groups [first, first + count) of a slot. Each element stands at a position below kTile in its tile, at which there are
// the numbers that its group shares.
template <Rule R>
class Block {
 public:
  static constexpr int M = moments_of(R);

  Block(const Slot& slot, const Options& options, std::size_t first, std::size_t count)
      : slot_(slot), o_(options), first_(first), count_(count) {
    const std::size_t inner = slot.groups.inner;
    positions_ = inner < kTile ? inner : kTile;
    decay_ = options.decay;
    if (options.weigh_by_size) decay_ *= __builtin_sqrtf(static_cast<float>(slot.groups.size()));
    multiply_gates(before_);
  }

  // Adds up <omega, g> of each group. Returns false if the weight is not the product of its factors.
  bool add_up() {
    float added[kTile];
    for (std::size_t j = 0; j < count_; ++j) sums_[j] = 0;
    std::size_t number = 0;
    const bool same = for_each_tile([&](Tile tile) {
      if (o_.compare && !agrees(tile)) return false;
      const Denormals mode(o_.flush);
      float widened[kTile];
      const float* const grad = gradient(tile, widened);
      if (number == 0) std::memset(added, 0, count_ * positions_ * sizeof(float));
      for_lanes(tile.size, [&](auto whole, std::size_t i, std::size_t size) {
        constexpr bool kWhole = decltype(whole)::value;
        ask_for(slot_.factors[0] + tile.begin, i + kAhead);
        ask_for(grad, i + kAhead);
        const Lanes product = take<kWhole>(slot_.factors[0] + tile.begin + i, size) * take<kWhole>(grad + i, size);
        put<kWhole>(added + i, take<kWhole>(added + i, size) + product, size);
      });
      if (++number == kMostAdded) {
        keep(added);
        number = 0;
      }
      return true;
    });
    if (same && number > 0) keep(added);
    return same;
  }

  void step_gates() {
    {
      const Denormals mode(o_.flush);
      for_lanes(count_, [&](auto whole, std::size_t i, std::size_t size) { step_gates<decltype(whole)::value>(i, size); });
    }
    multiply_gates(after_);
  }

  // Steps the full factor and writes the weight.
  void step_omega() {
    for_each_tile([&](Tile tile) {
      step_omega(tile);
      write_weight(tile);
      return true;
    });
  }

  // Zeroes the groups of which all gates and all of the full factor are below the bound.
  void clear_dead() {
    std::int32_t found = 0;
    for (std::size_t j = 0; j < count_; ++j) found |= small_[j];
    if (found == 0) return;
    // As integers, of which NaN is the largest.
    std::uint32_t largest[kTile] = {}, kept[kTile];
    for_each_tile([&](Tile tile) {
      const float* const omega = slot_.factors[0] + tile.begin;
#pragma omp simd
      for (std::size_t i = 0; i < tile.size; ++i) {
        const std::uint32_t magnitude = bits_of(omega[i]) & 0x7fffffff;
        largest[i] = magnitude > largest[i] ? magnitude : largest[i];
      }
      return true;
    });
    for (std::size_t j = 0; j < count_; ++j) {
      std::uint32_t most = 0;
      for (std::size_t i = j * positions_; i < (j + 1) * positions_; ++i) most = largest[i] > most ? largest[i] : most;
      const bool dead = small_[j] != 0 && float_of(most) < o_.dead;
      for (std::size_t i = j * positions_; i < (j + 1) * positions_; ++i) kept[i] = dead ? 0 : ~std::uint32_t{0};
      if (dead) clear_gates(first_ + j);
    }
    for_each_tile([&](Tile tile) {
      clear(slot_.factors[0] + tile.begin, kept, tile.size);
      for (int k = 0; k < M; ++k) clear(slot_.moments[k][0] + tile.begin, kept, tile.size);
      if (slot_.weight_type == Type::f32) {
        clear(static_cast<float*>(slot_.weight) + tile.begin, kept, tile.size);
      } else {
        std::uint16_t* const weight = static_cast<std::uint16_t*>(slot_.weight) + tile.begin;
        for (std::size_t i = 0; i < tile.size; ++i) weight[i] &= static_cast<std::uint16_t>(kept[i]);
      }
      return true;
    });
  }

 private:
  // In the order of memory, as long as the work returns true. Returns whether it always did.
  template <class Work>
  DWF_INLINE_MEMBER bool for_each_tile(const Work& work) const {
    const Groups& groups = slot_.groups;
    const std::size_t width = count_ * groups.inner;
    for (std::size_t row = 0; row < groups.outer; ++row) {
      const std::size_t begin = (row * groups.count + first_) * groups.inner;
      for (std::size_t at = 0; at < width; at += kTile)
        if (!work(Tile{begin + at, width - at < kTile ? width - at : kTile})) return false;
    }
    return true;
  }

  // The gates' products, in the order that is part of the state's format, at each position.
  void multiply_gates(float* products) const {
    for (std::size_t j = 0; j < count_; ++j) {
      float product = slot_.factors[1][first_ + j];
      for (int d = 2; d < o_.depth; ++d) product *= slot_.factors[d][first_ + j];
      for (std::size_t i = 0; i < positions_; ++i) products[j * positions_ + i] = product;
    }
  }

  const float* gradient(Tile tile, float* widened) const {
    const std::uint16_t* const half = static_cast<const std::uint16_t*>(slot_.grad) + tile.begin;
    switch (slot_.grad_type) {
      case Type::f32: return static_cast<const float*>(slot_.grad) + tile.begin;
      case Type::bf16: widen<Bf16>(half, tile.size, widened); break;
      case Type::f16: widen<F16>(half, tile.size, widened); break;
    }
    return widened;
  }

  bool agrees(Tile tile) const {
    const float* const omega = slot_.factors[0] + tile.begin;
    if (slot_.weight_type == Type::f32) {
      const float* const weight = static_cast<const float*>(slot_.weight) + tile.begin;
      Mask differing{};
      for_lanes(tile.size, [&](auto whole, std::size_t i, std::size_t size) {
        constexpr bool kWhole = decltype(whole)::value;
        ask_for(weight, i + kAhead);
        const Lanes now = take<kWhole>(weight + i, size);
        const Lanes held = take<kWhole>(omega + i, size) * take<kWhole>(before_ + i, size);
        // NaN is unequal to itself; that both are NaN is no difference.
        differing |= (now != held) & ((now == now) | (held == held));
      });
      return !any(differing);
    }
    const std::uint16_t* const weight = static_cast<const std::uint16_t*>(slot_.weight) + tile.begin;
    float exact[kTile];
    std::uint16_t held[kTile];
    multiply(omega, before_, tile.size, exact);
    if (slot_.weight_type == Type::bf16) {
      narrow<Bf16>(exact, tile.size, held);
      return same_halves<Bf16>(weight, held, tile.size);
    }
    narrow<F16>(exact, tile.size, held);
    return same_halves<F16>(weight, held, tile.size);
  }

  void keep(const float* added) {
    for (std::size_t j = 0; j < count_; ++j) sums_[j] += sum(added + j * positions_, positions_);
  }

  // The gates of groups in lanes, as kernel.cpp steps factors.
  template <bool kWhole>
  DWF_INLINE_MEMBER void step_gates(std::size_t i, std::size_t size) {
    const int gates = o_.depth - 1;
    float start[kLanes] = {};
    for (std::size_t n = 0; n < size; ++n) start[n] = static_cast<float>(sums_[i + n]);
    Lanes f[kMaxDepth], g[kMaxDepth];
    for (int d = 0; d < gates; ++d) f[d] = take<kWhole>(slot_.factors[d + 1] + first_ + i, size);
    g[0] = o_.sign * load(start);
    for (int d = 1; d < gates; ++d) g[d] = g[d - 1] * f[d - 1];
    Lanes right = f[gates - 1];
    for (int d = gates - 2; d >= 0; --d) {
      g[d] *= right;
      right *= f[d];
    }
    Mask small = ~Mask{};
    for (int d = 0; d < gates; ++d) {
      g[d] += decay_ * f[d];
      Lanes moments[kMaxMoments] = {};
      for (int k = 0; k < M; ++k) moments[k] = take<kWhole>(slot_.moments[k][d + 1] + first_ + i, size);
      f[d] -= move_by<R>(g[d], moments, o_, slot_.rates[d + 1], slot_.corrections[d + 1]);
      small &= magnitude(f[d]) < o_.dead;  // false for NaN
      put<kWhole>(slot_.factors[d + 1] + first_ + i, f[d], size);
      for (int k = 0; k < M; ++k) put<kWhole>(slot_.moments[k][d + 1] + first_ + i, moments[k], size);
    }
    std::memcpy(small_ + i, &small, size * sizeof(std::int32_t));
  }

  void step_omega(Tile tile) const {
    const Denormals mode(o_.flush);
    float widened[kTile];
    const float* const grad = gradient(tile, widened);
    float* const omega = slot_.factors[0] + tile.begin;
    float* moments[M > 0 ? M : 1];
    for (int k = 0; k < M; ++k) moments[k] = slot_.moments[k][0] + tile.begin;
    for_lanes(tile.size, [&](auto whole, std::size_t i, std::size_t size) {
      constexpr bool kWhole = decltype(whole)::value;
      for (int k = 0; k < M; ++k) ask_for(moments[k], i + kAhead);
      const Lanes f = take<kWhole>(omega + i, size);
      const Lanes g = o_.sign * take<kWhole>(grad + i, size) * take<kWhole>(before_ + i, size) + decay_ * f;
      Lanes kept[kMaxMoments] = {};
      for (int k = 0; k < M; ++k) kept[k] = take<kWhole>(moments[k] + i, size);
      put<kWhole>(omega + i, f - move_by<R>(g, kept, o_, slot_.rates[0], slot_.corrections[0]), size);
      for (int k = 0; k < M; ++k) put<kWhole>(moments[k] + i, kept[k], size);
    });
  }

  static void multiply(const float* omega, const float* products, std::size_t size, float* out) {
    for_lanes(size, [&](auto whole, std::size_t i, std::size_t left) {
      constexpr bool kWhole = decltype(whole)::value;
      put<kWhole>(out + i, take<kWhole>(omega + i, left) * take<kWhole>(products + i, left), left);
    });
  }

  void write_weight(Tile tile) const {
    const float* const omega = slot_.factors[0] + tile.begin;
    if (slot_.weight_type == Type::f32)
      return multiply(omega, after_, tile.size, static_cast<float*>(slot_.weight) + tile.begin);
    std::uint16_t* const weight = static_cast<std::uint16_t*>(slot_.weight) + tile.begin;
    float exact[kTile];
    multiply(omega, after_, tile.size, exact);
    slot_.weight_type == Type::bf16 ? narrow<Bf16>(exact, tile.size, weight) : narrow<F16>(exact, tile.size, weight);
  }

  void clear_gates(std::size_t group) const {
    for (int d = 1; d < o_.depth; ++d) {
      slot_.factors[d][group] = 0;
      for (int k = 0; k < M; ++k) slot_.moments[k][d][group] = 0;
    }
  }

  static void clear(float* numbers, const std::uint32_t* kept, std::size_t size) {
#pragma omp simd
    for (std::size_t i = 0; i < size; ++i) numbers[i] = float_of(bits_of(numbers[i]) & kept[i]);
  }

  const Slot& slot_;
  const Options& o_;
  const std::size_t first_, count_;
  std::size_t positions_;  // of a group in a tile
  float decay_;
  float before_[kTile], after_[kTile];  // products of the gates, by position
  double sums_[kTile];                  // by group
  std::int32_t small_[kTile];           // whether all its gates are below the bound, by group
};

template <Rule R>
std::size_t step(const Slot& slot, const Options& options, std::size_t begin, std::size_t end) {
  const Denormals exact(false);
  const std::size_t most = slot.groups.inner < kTile ? kTile / slot.groups.inner : 1;
  while (begin < end) {
    const std::size_t count = end - begin < most ? end - begin : most;
    Block<R> block(slot, options, begin, count);
    if (!block.add_up()) return begin;
    block.step_gates();
    block.step_omega();
    block.clear_dead();
    begin += count;
  }
  return end;
}

}  // namespace

Kernel gate_kernel(Rule rule) {
  switch (rule) {
    case Rule::sgd: return step<Rule::sgd>;
    case Rule::momentum: return step<Rule::momentum>;
    case Rule::adam: return step<Rule::adam>;
    case Rule::amsgrad: return step<Rule::amsgrad>;
  }
  return nullptr;
}

}  // namespace DWF_ISA
}  // namespace dwf
