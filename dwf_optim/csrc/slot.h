// What the kernel works on: one weight with its factors and the base's state, as pointers.

#pragma once

#include <cstddef>
#include <cstdint>

namespace dwf {

constexpr int kMaxDepth = 8;
// Most tensors that a rule keeps per factor: Adam's two moments and, with amsgrad, the largest second one.
constexpr int kMaxMoments = 3;

enum class Type : std::uint8_t { f32, bf16, f16 };

constexpr std::size_t bytes_of(Type type) { return type == Type::f32 ? 4 : 2; }

// How the base moves a factor. Each kind is compiled for each depth, so the loops hold no branches.
enum class Rule : std::uint8_t { sgd, momentum, adam, amsgrad };

constexpr int moments_of(Rule rule) {
  switch (rule) {
    case Rule::sgd: return 0;
    case Rule::momentum: return 1;
    case Rule::adam: return 2;
    case Rule::amsgrad: return 3;
  }
  return 0;
}

// What is kept of the factors (dwf_optim/storage): all of them, one root that stands for them, nothing, or one full factor
// and gates that groups of elements share.
enum class Storage : std::uint8_t { full, tied, ephemeral, gated };

constexpr bool counts_steps(Rule rule) { return rule == Rule::adam || rule == Rule::amsgrad; }

// Which elements share gates, in the order of memory: [outer][count][inner], of which the middle index is the group's.
struct Groups {
  std::size_t outer = 1, count = 0, inner = 1;

  // Elements of one.
  std::size_t size() const { return outer * inner; }
};

// A factorized weight. All tensors have the same elements in the same order in memory, without gaps; of one with gates the
// first factor and its moments do, and the others have one number a group.
struct Slot {
  std::size_t size;  // elements; or groups, which are stepped whole
  Groups groups;
  void* weight;
  const void* grad;
  Type weight_type;
  Type grad_type;
  float* factors[kMaxDepth];  // or the root, or nothing
  float* moments[kMaxMoments][kMaxDepth];
  float* counts[kMaxDepth];  // the base's step counters, one number each
  // Adam's rate, and one over the root of its second bias correction: they depend on each factor's step counter.
  float rates[kMaxDepth];
  float corrections[kMaxDepth];
};

// What the slots of one group share.
struct Options {
  Rule rule;
  Storage storage;
  int depth;
  int parts;  // what the base steps: the factors, or the root
  bool nesterov;
  bool flush;          // denormal numbers count as zero
  bool weigh_by_size;  // a group's decay is multiplied by the root of its number of elements
  bool compare;        // look first whether the weight is still the product of its factors
  float sign;    // -1 where the base maximizes
  float decay;   // 2 lambda / D: what a factor adds to its gradient
  float dead;    // a weight with all |f_d| below this becomes zero; 0 for none
  float lr;
  float momentum;
  float undamped;        // 1 - dampening
  float beta2;
  float fresh1, fresh2;  // 1 - beta
  float eps;
  double exact_lr, exact_beta1, exact_beta2;  // for Adam's bias corrections
};

// Steps elements (or groups) [begin, end) of a slot. Returns where it stopped: `end`, or the beginning of the part in which
// the weight is no longer the product of its factors, which it leaves as it is.
using Kernel = std::size_t (*)(const Slot& slot, const Options& options, std::size_t begin, std::size_t end);

}  // namespace dwf
