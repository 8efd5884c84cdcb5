#include "onnxruntime/loaded.h"

#include <cstring>
#include <string>
#include <utility>

#include "builder.h"
#include "inputs.h"
#include "onnxruntime/reader.h"
#include "ops/bind.h"

namespace dwf {
namespace {

// As recording.py has them. The version is raised when the arguments of an op change their meaning.
constexpr std::uint32_t kMagic = 0x50465744;  // "DWFP"
constexpr std::uint32_t kVersion = 1;
// Floats of all values of a tile together: 4 GiB. No file makes the library take more memory for them.
constexpr std::size_t kMostFloats = std::size_t{1} << 30;

// What may be called: the ops, by their names in Builder.
const BuilderClass& ops() {
  static const BuilderClass* const table = [] {
    auto* made = new BuilderClass;
    bind_ops(*made);
    return made;
  }();
  return *table;
}

void read_values(Reader& reader, Builder& builder) {
  std::size_t positions = 0;
  for (std::size_t left = reader.count(20); left > 0; --left) {
    Layout layout;
    for (std::size_t* size : {&layout.channels, &layout.height, &layout.width, &layout.border_rows,
                              &layout.border_columns})
      *size = reader.number();
    require(layout.features() > 0, "a value has no elements");
    builder.add_value(layout);  // which refuses what overflows
    positions += layout.positions();
    require(positions <= kMostFloats / builder.widest, "the program's values are too large");
  }
}

std::vector<int> read_numbers(Reader& reader) {
  std::vector<int> numbers(reader.count(4));
  for (int& number : numbers) number = static_cast<int>(reader.number());
  return numbers;
}

void read_ops(Reader& reader, Builder& builder) {
  for (std::size_t left = reader.count(5); left > 0; --left) {
    const std::string name = reader.text();
    BuilderClass::Values values(reader.byte());
    for (SharedValue& value : values) value = std::make_shared<const Value>(reader.value());
    ops().call(name, builder, values);
  }
}

// One shape for each of a program's values, of as many elements.
std::vector<std::vector<std::int64_t>> read_shapes(Reader& reader, const Builder& builder,
                                                   const std::vector<int>& values, std::size_t rows) {
  require(reader.count(4) == values.size(), "there is not one shape for each input and output");
  std::vector<std::vector<std::int64_t>> shapes;
  for (const int value : values) {
    std::vector<std::int64_t> shape(reader.count(4));
    double elements = 1;
    for (std::int64_t& size : shape) {
      size = reader.number();
      elements *= static_cast<double>(size);
    }
    require(elements == static_cast<double>(rows) * static_cast<double>(builder.layout(value).features()),
            "a shape has not as many elements as the program's value");
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

}  // namespace

Loaded load(const void* bytes, std::size_t size) {
  Reader reader(bytes, size);
  require(reader.number() == kMagic, "this is no program");
  const std::uint32_t version = reader.number();
  require(version == kVersion, "the program has version " + std::to_string(version) + ", this library reads " +
                                   std::to_string(kVersion) + "; export the model again");
  Builder builder("", reader.number());
  read_values(reader, builder);
  const std::vector<int> inputs = read_numbers(reader);
  for (const int value : inputs) builder.add_input(value);
  read_ops(reader, builder);
  const std::vector<int> outputs = read_numbers(reader);
  Loaded loaded;
  loaded.rows = reader.number();
  require(loaded.rows > 0, "an example has no samples");
  loaded.inputs = read_shapes(reader, builder, inputs, loaded.rows);
  loaded.outputs = read_shapes(reader, builder, outputs, loaded.rows);
  reader.finish();
  loaded.program = builder.build(outputs);
  return loaded;
}

}  // namespace dwf
