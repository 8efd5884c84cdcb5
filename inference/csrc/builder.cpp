#include "builder.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "inputs.h"

namespace dwf {
namespace {

// So that no product of sizes overflows.
constexpr std::size_t kMostPositions = std::size_t{1} << 31;

}  // namespace

Builder::Builder(const std::string& instruction_set, std::size_t widest)
    : set(find_instruction_set(instruction_set)), widest(widest) {
  require(std::find(std::begin(kTileLanes), std::end(kTileLanes), widest) != std::end(kTileLanes),
          "no tile has " + std::to_string(widest) + " lanes");
}

int Builder::add_value(const Layout& layout) {
  double positions = static_cast<double>(layout.channels);
  for (const auto& [size, border] : {std::pair(layout.height, layout.border_rows), {layout.width, layout.border_columns}}) {
    require(border < kMostPositions, "a border cannot be that wide");
    positions *= static_cast<double>(size) + 2 * static_cast<double>(border);
  }
  require(positions < static_cast<double>(kMostPositions), "a value cannot be that large");
  layouts_.push_back(layout);
  made_.push_back(false);
  return static_cast<int>(layouts_.size()) - 1;
}

const Layout& Builder::layout(int value) const {
  require(value >= 0 && static_cast<std::size_t>(value) < layouts_.size(), "there is no value " + std::to_string(value));
  return layouts_[value];
}

void Builder::add_input(int value) {
  layout(value);
  require(!made_[value], "value " + std::to_string(value) + " is already there");
  made_[value] = true;
  inputs_.push_back(value);
}

void Builder::add(std::unique_ptr<const Op> op) {
  require(!built_, "the program is already built");
  for (const int value : op->inputs) {
    layout(value);
    require(made_[value], "an op reads value " + std::to_string(value) + ", which none before it makes");
  }
  layout(op->output);
  require(!made_[op->output], "value " + std::to_string(op->output) + " is already there");
  made_[op->output] = true;
  ops_.push_back(std::move(op));
}

std::shared_ptr<const Program> Builder::build(const std::vector<int>& outputs) {
  require(!built_, "the program is already built");
  require(!inputs_.empty() && !outputs.empty(), "a program needs inputs and outputs");
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    const int value = outputs[k];
    layout(value);
    require(made_[value], "no op makes output " + std::to_string(value));
    require(std::find(inputs_.begin(), inputs_.end(), value) == inputs_.end(),
            "output " + std::to_string(value) + " is an input: nothing is computed");
    require(std::find(outputs.begin(), outputs.begin() + k, value) == outputs.begin() + k,
            "output " + std::to_string(value) + " stands twice");
  }
  for (std::size_t v = 0; v < made_.size(); ++v) require(made_[v], "no op makes value " + std::to_string(v));
  built_ = true;
  return std::make_shared<const Program>(set, widest, std::move(layouts_), std::move(ops_), std::move(inputs_), outputs);
}

}  // namespace dwf
