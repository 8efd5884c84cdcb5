// Arguments of a call that comes from a file.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dwf {

struct Value {
  enum class Kind { none, boolean, integer, real, text, list, floats, indices };

  Kind kind = Kind::none;
  std::int64_t integer = 0;  // and booleans
  double real = 0;
  std::string text;
  std::vector<Value> list;
  // Arrays, with their shape.
  std::vector<float> floats;
  std::vector<std::int32_t> indices;
  std::vector<std::int64_t> shape;
};

using SharedValue = std::shared_ptr<const Value>;

}  // namespace dwf
