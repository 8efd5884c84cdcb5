#include "onnxruntime/reader.h"

#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "inputs.h"

namespace dwf {
namespace {

// Lists of lists of numbers are as deep as it gets.
constexpr int kDeepest = 4;
constexpr std::size_t kMostDimensions = 8;

template <class T>
T copied(const unsigned char* from) {
  T made;
  std::memcpy(&made, from, sizeof made);
  return made;
}

}  // namespace

const unsigned char* Reader::take(std::size_t size) {
  require(size <= static_cast<std::size_t>(end_ - next_), "the program ends too early");
  const unsigned char* const taken = next_;
  next_ += size;
  return taken;
}

std::uint8_t Reader::byte() { return *take(1); }

std::uint32_t Reader::number() { return copied<std::uint32_t>(take(4)); }

std::string Reader::text() {
  const std::size_t size = number();
  const unsigned char* const from = take(size);
  // Texts are quoted in errors, which have to be UTF-8.
  for (std::size_t k = 0; k < size; ++k) require(from[k] >= ' ' && from[k] <= '~', "a text has other letters than ASCII's");
  return {from, from + size};
}

std::size_t Reader::count(std::size_t each) {
  const std::size_t found = number();
  require(found <= static_cast<std::size_t>(end_ - next_) / each, "the program ends too early");
  return found;
}

void Reader::finish() const { require(next_ == end_, "the program goes on behind its end"); }

template <class Stored, class Made>
void Reader::read_array(std::vector<Made>& made, std::vector<std::int64_t>& shape) {
  const std::size_t dimensions = byte();
  require(dimensions <= kMostDimensions, "an array has too many dimensions");
  std::size_t size = 1;
  for (std::size_t d = 0; d < dimensions; ++d) {
    const std::size_t next = number();
    shape.push_back(static_cast<std::int64_t>(next));
    // No product overflows: a size of what is there is below 2^32, and any is.
    size *= next;
    require(size <= static_cast<std::size_t>(end_ - next_), "the program ends too early");
  }
  const unsigned char* const from = take(size * sizeof(Stored));
  made.resize(size);
  if constexpr (std::is_same_v<Stored, Made>) {
    if (size != 0) std::memcpy(made.data(), from, size * sizeof(Made));
  } else {
    for (std::size_t k = 0; k < size; ++k) made[k] = copied<Stored>(from + k * sizeof(Stored));
  }
}

Value Reader::value(int depth) {
  Value made;
  switch (byte()) {
    case 'n': return made;
    case 'b':
      made.kind = Value::Kind::boolean;
      made.integer = byte() != 0;
      return made;
    case 'i':
      made.kind = Value::Kind::integer;
      made.integer = copied<std::int64_t>(take(8));
      return made;
    case 'd':
      made.kind = Value::Kind::real;
      made.real = copied<double>(take(8));
      return made;
    case 's':
      made.kind = Value::Kind::text;
      made.text = text();
      return made;
    case 'l': {
      require(depth < kDeepest, "lists are too deep");
      made.kind = Value::Kind::list;
      const std::size_t size = count(1);
      for (std::size_t k = 0; k < size; ++k) made.list.push_back(value(depth + 1));
      return made;
    }
    case 'f':
      made.kind = Value::Kind::floats;
      read_array<float>(made.floats, made.shape);
      return made;
    case 'I':
      made.kind = Value::Kind::indices;
      read_array<std::int32_t>(made.indices, made.shape);
      return made;
    case 'H':
      made.kind = Value::Kind::indices;
      read_array<std::uint16_t>(made.indices, made.shape);
      return made;
    default: throw std::invalid_argument("the program holds a value of no known kind");
  }
}

}  // namespace dwf
