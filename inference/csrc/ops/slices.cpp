#include "ops/slices.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace dwf {
namespace {

// Cycles of a gather of a register of inputs, and of a step: per term a permutation and a shift beside the sum, and the window.
struct Cycles {
  double gather, term, step;
};
constexpr Cycles kAvx512{10.5, 1.4, 1.2}, kAvx2{5.3, 1.6, 1.0};

// What is larger than this does not stay in the second cache, beside all else, and a byte of it takes so many cycles to come.
constexpr double kNear = 1 << 20, kFarByte = 0.22;

double cycles_of(double work, double bytes) { return bytes > kNear ? std::max(work, bytes * kFarByte) : work; }

}  // namespace

PackedSlices::PackedSlices(const Csr& csr, const float* bias, const Layout& from, const Layout& to, InstructionSet set)
    : lanes_(rows_to_slice(set)), order_(csr.rows) {
  std::iota(order_.begin(), order_.end(), 0u);
  const auto terms_of = [&](std::size_t row) { return csr.begins[row + 1] - csr.begins[row]; };
  std::stable_sort(order_.begin(), order_.end(), [&](auto a, auto b) { return terms_of(a) > terms_of(b); });
  const std::size_t filled = (csr.rows + lanes_ - 1) / lanes_ * lanes_;
  for (const std::uint32_t row : order_) {
    outputs_.push_back(static_cast<std::uint32_t>(to.position(row)));
    bias_.push_back(bias != nullptr ? bias[row] : 0);
    terms_.push_back(terms_of(row));
  }
  outputs_.resize(filled);
  bias_.resize(filled);
  terms_.resize(filled);
  const std::size_t window = window_of(set);
  if (window > 0 && from.dense() && csr.columns >= window) {
    const Cycles& cycles = set == InstructionSet::avx512 ? kAvx512 : kAvx2;
    double gathers = 0;
    for (std::size_t row = 0; row < csr.rows; row += lanes_) gathers += terms_[row];
    const double word = 4 * static_cast<double>(lanes_);  // bytes of a register
    double least = cycles_of(gathers * cycles.gather, gathers * 2 * word);
    for (const std::size_t terms : kStepTerms) {
      Cut made = cut(csr, window, terms);
      const double count = static_cast<double>(made.windows.size()), each = static_cast<double>(terms);
      const double taken = cycles_of(count * (cycles.step + cycles.term * each), count * (1 + each) * word);
      if (taken >= least) continue;
      least = taken;
      steps_ = std::move(made);
    }
    if (in_steps()) return;
  }
  pack_slices(csr, from);
}

void PackedSlices::pack_slices(const Csr& csr, const Layout& from) {
  for (std::size_t row = 0; row < order_.size(); row += lanes_) {
    const std::size_t end = std::min(row + lanes_, order_.size());
    const std::size_t longest = static_cast<std::size_t>(terms_[row]);
    const std::size_t begin = positions_.size();
    begins_.push_back(static_cast<std::uint32_t>(begin / lanes_));
    shortest_.push_back(end - row == lanes_ ? static_cast<std::uint32_t>(terms_[end - 1]) : 0);
    positions_.resize(begin + longest * lanes_);
    weights_.resize(begin + longest * lanes_);
    for (std::size_t r = row; r < end; ++r) {
      const std::size_t first = static_cast<std::size_t>(csr.begins[order_[r]]);
      for (std::size_t k = 0; k < static_cast<std::size_t>(terms_[r]); ++k) {
        positions_[begin + k * lanes_ + r - row] = static_cast<std::int32_t>(from.position(csr.indices[first + k]));
        weights_[begin + k * lanes_ + r - row] = csr.weights[first + k];
      }
    }
  }
  begins_.push_back(static_cast<std::uint32_t>(positions_.size() / lanes_));
}

// Each step's window begins at the first column that is left over in any row, so a row with many terms in a stretch of
// columns is waited for no longer than it takes, and the others go ahead within the window.
PackedSlices::Cut PackedSlices::cut(const Csr& csr, std::size_t window, std::size_t step_terms) const {
  Cut made;
  made.terms = step_terms;
  std::array<std::int32_t, 16> next{}, ends{};
  for (std::size_t row = 0; row < order_.size(); row += lanes_) {
    made.begins.push_back(static_cast<std::uint32_t>(made.windows.size()));
    const std::size_t rows = std::min(lanes_, order_.size() - row);
    for (std::size_t r = 0; r < rows; ++r) {
      next[r] = csr.begins[order_[row + r]];
      ends[r] = csr.begins[order_[row + r] + 1];
    }
    for (;;) {
      std::size_t first = csr.columns;
      for (std::size_t r = 0; r < rows; ++r)
        if (next[r] < ends[r]) first = std::min(first, static_cast<std::size_t>(csr.indices[next[r]]));
      if (first == csr.columns) break;
      first = std::min(first, csr.columns - window);
      made.windows.push_back(static_cast<std::uint32_t>(first));
      const std::size_t places = made.places.size(), weights = made.weights.size();
      made.places.resize(places + lanes_);
      made.weights.resize(weights + step_terms * lanes_);
      for (std::size_t r = 0; r < lanes_; ++r) {
        std::uint32_t word = 0;
        for (std::size_t k = 0; k < step_terms; ++k) {
          auto place = static_cast<std::uint32_t>(window);  // a zero
          if (r < rows && next[r] < ends[r] && static_cast<std::size_t>(csr.indices[next[r]]) < first + window) {
            place = static_cast<std::uint32_t>(csr.indices[next[r]]) - static_cast<std::uint32_t>(first);
            made.weights[weights + k * lanes_ + r] = csr.weights[next[r]];
            ++next[r];
          }
          word |= place << (8 * k);
        }
        made.places[places + r] = word;
      }
    }
  }
  made.begins.push_back(static_cast<std::uint32_t>(made.windows.size()));
  return made;
}

std::size_t PackedSlices::bytes() const {
  return 4 * (begins_.size() + shortest_.size() + outputs_.size() + terms_.size() + positions_.size() + weights_.size() +
              bias_.size() + steps_.begins.size() + steps_.windows.size() + steps_.places.size() + steps_.weights.size());
}

}  // namespace dwf
