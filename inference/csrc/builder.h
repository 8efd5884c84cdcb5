// Puts a program together, value by value and op by op, and checks what it is given.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "instruction_set.h"
#include "layout.h"
#include "op.h"
#include "program.h"

namespace dwf {

class Builder {
 public:
  // instruction_set: by name; the widest that this machine has if empty. widest: the most lanes that a tile will have.
  // Throws std::invalid_argument for what is not here.
  Builder(const std::string& instruction_set, std::size_t widest);
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  // Returns the number of a new value, which an input of the graph or an op makes.
  int add_value(const Layout& layout);

  // Declares that the caller gives a value.
  void add_input(int value);

  // Throws std::invalid_argument if an input of the op is not made yet, or its output already is.
  void add(std::unique_ptr<const Op> op);

  // The layout of a value. Throws std::invalid_argument if there is none of that number.
  const Layout& layout(int value) const;

  // Ops so far: the place of the next one in the program.
  std::size_t size() const { return ops_.size(); }

  // Ends the building: what was put together is moved into the program.
  std::shared_ptr<const Program> build(const std::vector<int>& outputs);

  const InstructionSet set;
  const std::size_t widest;

 private:
  std::vector<Layout> layouts_;
  std::vector<bool> made_;
  std::vector<int> inputs_;
  std::vector<std::unique_ptr<const Op>> ops_;
  bool built_ = false;
};

}  // namespace dwf
