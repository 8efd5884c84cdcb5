#include "step.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <tuple>

#include "nearby.h"
#include "pool.h"

namespace dwf {
namespace {

// Elements in a thread's share: some 50 us of work, so that neither the counter nor the last share to end matters.
constexpr std::size_t kShare = 16 * 1024;
constexpr std::size_t kSharesPerThread = 2;

// Least contiguous elements of a row, where groups lie across rows. Measured: with 64, which would leave both sweeps in
// cache, the step takes 1.8 times as long as with 512, because each row is on another page; 1024 are no faster.
constexpr std::size_t kLeastWidth = 512;

// How many elements, or groups, of a slot make a share.
std::size_t in_a_share(const Slot& slot) {
  const Groups& groups = slot.groups;
  const std::size_t least = groups.outer == 1 ? 1 : (kLeastWidth + groups.inner - 1) / groups.inner;
  return std::max(least, kShare / groups.size());
}

// Ranges [first, last) of a list.
struct Share {
  std::size_t first, last;
};

// Cuts ranges to one share or one group, and puts small ones together. Where the cuts are does not depend on the threads.
std::vector<Share> cut(const std::vector<Slot>& slots, const std::vector<Range>& ranges, std::vector<Range>& pieces) {
  std::vector<Share> shares;
  std::size_t filled = kShare;
  for (const Range& range : ranges) {
    const std::size_t most = in_a_share(slots[range.slot]), size = slots[range.slot].groups.size();
    for (std::size_t begin = range.begin; begin < range.end; begin += most) {
      const std::size_t end = std::min(begin + most, range.end);
      if (filled + (end - begin) * size > kShare) {
        shares.push_back({pieces.size(), pieces.size()});
        filled = 0;
      }
      pieces.push_back({range.slot, begin, end});
      shares.back().last = pieces.size();
      filled += (end - begin) * size;
    }
  }
  return shares;
}

// Pieces ahead that are asked for, and elements of each: for small weights, which are over before the processor has seen
// where they lead.
constexpr std::size_t kAhead = 2;
constexpr std::size_t kFetched = 256;

void fetch_piece(const std::vector<Slot>& slots, const Options& options, const Range& piece) {
  const Slot& slot = slots[piece.slot];
  if (piece.begin == piece.end) return;
  const auto ask = [&](const void* from, std::size_t element, std::size_t inner) {
    const std::size_t size = std::min((piece.end - piece.begin) * inner, kFetched);
    fetch(static_cast<const char*>(from) + piece.begin * inner * element, size * element);
  };
  const std::size_t inner = slot.groups.inner;
  ask(slot.weight, bytes_of(slot.weight_type), inner);
  ask(slot.grad, bytes_of(slot.grad_type), inner);
  for (int d = 0; d < options.parts; ++d) {
    const std::size_t of_each = options.storage == Storage::gated && d > 0 ? 1 : inner;
    if (options.storage != Storage::ephemeral) ask(slot.factors[d], sizeof(float), of_each);
    for (int k = 0; k < moments_of(options.rule); ++k) ask(slot.moments[k][d], sizeof(float), of_each);
  }
}

}  // namespace

void count_step(std::vector<Slot>& slots, const Options& options) {
  if (!counts_steps(options.rule)) return;
  float last = 0, rate = 0, correction = 0;
  for (Slot& slot : slots) {
    for (int d = 0; d < options.parts; ++d) {
      const float step = *slot.counts[d] += 1;
      if (step != last) {  // nearly all have the same count
        rate = static_cast<float>(options.exact_lr / (1 - std::pow(options.exact_beta1, step)));
        correction = static_cast<float>(1 / std::sqrt(1 - std::pow(options.exact_beta2, step)));
        last = step;
      }
      slot.rates[d] = rate;
      slot.corrections[d] = correction;
    }
  }
}

std::vector<Range> step_ranges(const std::vector<Slot>& slots, const Options& options, Kernel kernel,
                               const std::vector<Range>& ranges, int threads) {
  std::vector<Range> pieces, left;
  const std::vector<Share> shares = cut(slots, ranges, pieces);
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < shares.size();) {
      for (std::size_t k = shares[i].first; k < shares[i].last; ++k) {
        const Range& piece = pieces[k];
        if (k + kAhead < shares[i].last) fetch_piece(slots, options, pieces[k + kAhead]);
        const std::size_t end = kernel(slots[piece.slot], options, piece.begin, piece.end);
        if (end < piece.end) {
          const std::lock_guard<std::mutex> lock(mutex);
          left.push_back({piece.slot, end, piece.end});
        }
      }
    }
  };
  // A thread that has to be woken for less than its own share of work comes too late.
  const std::size_t useful = std::max<std::size_t>(1, shares.size() / kSharesPerThread);
  run_on_threads(static_cast<int>(std::min<std::size_t>(threads, useful)), work);
  std::sort(left.begin(), left.end(),
            [](const Range& a, const Range& b) { return std::tie(a.slot, a.begin) < std::tie(b.slot, b.begin); });
  return left;
}

std::vector<Range> whole(const std::vector<Slot>& slots) {
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < slots.size(); ++i) ranges.push_back({i, 0, slots[i].size});
  return ranges;
}

}  // namespace dwf
