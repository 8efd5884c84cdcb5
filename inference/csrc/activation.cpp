#include "activation.h"

#include <stdexcept>

namespace dwf {

Activation find_activation(const std::string& name, double slope) {
  static constexpr struct {
    const char* name;
    Function function;
  } kFunctions[] = {
      {"", Function::none},           {"relu", Function::relu},           {"relu6", Function::relu6},
      {"leaky_relu", Function::leaky_relu}, {"gelu", Function::gelu},     {"gelu_tanh", Function::gelu_tanh},
      {"silu", Function::silu},       {"sigmoid", Function::sigmoid},     {"tanh", Function::tanh},
  };
  for (const auto& each : kFunctions)
    if (name == each.name) return {each.function, static_cast<float>(slope)};
  throw std::invalid_argument("unknown activation \"" + name + "\"");
}

}  // namespace dwf
