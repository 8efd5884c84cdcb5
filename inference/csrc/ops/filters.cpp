#include "ops/filters.h"

#include <algorithm>

#include "memory.h"

namespace dwf {
namespace {

class SparseFilters : public Filters {
 public:
  SparseFilters(InstructionSet set, const Csr& csr, const Taps& taps, const std::vector<Part>& parts,
                const std::vector<std::uint32_t>& offsets)
      : kernel_(DWF_KERNEL(set, sparse_conv)) {
    // A row's weights rise by tap, so each part of it goes on where the one before has ended.
    std::vector<std::int32_t> next(csr.begins, csr.begins + csr.rows);
    std::vector<std::size_t> first;
    for (const Part& part : parts) {
      first.push_back(begins_.size());
      const std::size_t end = (part.input + part.inputs) * taps.window;
      for (std::size_t output = part.output; output < part.output + part.outputs; ++output) {
        begins_.push_back(static_cast<std::uint32_t>(taps_.size()));
        std::int32_t& k = next[output];
        for (; k < csr.begins[output + 1]; ++k) {
          const std::size_t tap = taps.tap(output, static_cast<std::size_t>(csr.indices[k]));
          if (tap >= end) break;
          taps_.push_back({offsets[tap], csr.weights[k]});
        }
      }
      begins_.push_back(static_cast<std::uint32_t>(taps_.size()));
    }
    for (std::size_t p = 0; p < parts.size(); ++p)
      panels_.push_back({{parts[p].output, parts[p].outputs, parts[p].opens, parts[p].closes},
                         begins_.data() + first[p], taps_.data()});
  }

  void run(std::size_t first, std::size_t count, const Field& field, const float* from, const Ends& ends,
           float* to) const override {
    kernel_(panels_.data() + first, count, field, from, ends, to);
  }

  std::size_t bytes() const override { return taps_.size() * sizeof(Tap) + begins_.size() * sizeof(std::uint32_t); }

 private:
  decltype(&baseline::sparse_conv) const kernel_;
  AlignedVector<Tap> taps_;
  std::vector<std::uint32_t> begins_;
  std::vector<SparsePanel> panels_;
};

class DenseFilters : public Filters {
 public:
  DenseFilters(InstructionSet set, const float* weights, const Taps& taps, const std::vector<Part>& parts,
               const std::vector<std::uint32_t>& offsets)
      : kernel_(DWF_KERNEL(set, dense_conv)), offsets_(offsets.begin(), offsets.end()) {
    const std::size_t row = taps.inputs_of_group() * taps.window;
    std::vector<std::size_t> first;
    for (const Part& part : parts) {
      first.push_back(weights_.size());
      const std::size_t begin = part.input * taps.window, end = begin + part.inputs * taps.window;
      std::size_t step;
      for (std::size_t output = part.output; output < part.output + part.outputs; output += step) {
        step = part.output + part.outputs - output >= kDenseChannels ? kDenseChannels : 1;
        for (std::size_t tap = begin; tap < end; ++tap)
          for (std::size_t c = output; c < output + step; ++c)
            weights_.push_back(weights[c * row + tap - taps.tap(c, 0)]);
      }
    }
    for (std::size_t p = 0; p < parts.size(); ++p)
      panels_.push_back({{parts[p].output, parts[p].outputs, parts[p].opens, parts[p].closes},
                         parts[p].inputs * taps.window,
                         offsets_.data() + parts[p].input * taps.window,
                         weights_.data() + first[p]});
  }

  void run(std::size_t first, std::size_t count, const Field& field, const float* from, const Ends& ends,
           float* to) const override {
    kernel_(panels_.data() + first, count, field, from, ends, to);
  }

  std::size_t bytes() const override {
    return weights_.size() * sizeof(float) + offsets_.size() * sizeof(std::uint32_t);
  }

 private:
  decltype(&baseline::dense_conv) const kernel_;
  AlignedVector<std::uint32_t> offsets_;
  AlignedVector<float> weights_;
  std::vector<DensePanel> panels_;
};

}  // namespace

std::vector<Part> cut(const Taps& taps, std::size_t most, bool mixed) {
  const std::size_t inputs = taps.inputs_of_group(), outputs = taps.outputs_of_group();
  std::vector<Part> parts;
  if (inputs <= most) {
    const std::size_t together = mixed ? most / inputs : 1;
    for (std::size_t group = 0; group < taps.groups; group += together) {
      const std::size_t count = std::min(together, taps.groups - group);
      parts.push_back({group * inputs, count * inputs, group * outputs, count * outputs, true, true});
    }
    return parts;
  }
  const std::size_t pieces = (inputs + most - 1) / most;
  for (std::size_t group = 0; group < taps.groups; ++group)
    for (std::size_t p = 0; p < pieces; ++p) {
      const std::size_t begin = inputs * p / pieces, end = inputs * (p + 1) / pieces;
      parts.push_back({group * inputs + begin, end - begin, group * outputs, outputs, p == 0, p + 1 == pieces});
    }
  return parts;
}

std::vector<std::uint32_t> SparseWeights::used(const Taps& taps, const Part& part) const {
  const std::size_t begin = part.input * taps.window;
  std::vector<bool> needed(part.inputs * taps.window);
  for (std::size_t output = part.output; output < part.output + part.outputs; ++output)
    for (std::int32_t k = csr_.begins[output]; k < csr_.begins[output + 1]; ++k) {
      const std::size_t tap = taps.tap(output, static_cast<std::size_t>(csr_.indices[k]));
      if (tap >= begin && tap - begin < needed.size()) needed[tap - begin] = true;
    }
  std::vector<std::uint32_t> found;
  for (std::size_t tap = 0; tap < needed.size(); ++tap)
    if (needed[tap]) found.push_back(static_cast<std::uint32_t>(begin + tap));
  return found;
}

std::unique_ptr<const Filters> SparseWeights::pack(InstructionSet set, const Taps& taps, const std::vector<Part>& parts,
                                                   const std::vector<std::uint32_t>& offsets) const {
  return std::make_unique<SparseFilters>(set, csr_, taps, parts, offsets);
}

std::vector<std::uint32_t> DenseWeights::used(const Taps& taps, const Part& part) const {
  std::vector<std::uint32_t> all;
  for (std::size_t tap = part.input * taps.window; tap < (part.input + part.inputs) * taps.window; ++tap)
    all.push_back(static_cast<std::uint32_t>(tap));
  return all;
}

std::unique_ptr<const Filters> DenseWeights::pack(InstructionSet set, const Taps& taps, const std::vector<Part>& parts,
                                                  const std::vector<std::uint32_t>& offsets) const {
  return std::make_unique<DenseFilters>(set, weights_, taps, parts, offsets);
}

}  // namespace dwf
