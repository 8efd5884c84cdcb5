// Elementwise functions.

#pragma once

#include <cstdint>
#include <string>

namespace dwf {

enum class Function : std::uint8_t { none, relu, relu6, leaky_relu, gelu, gelu_tanh, silu, sigmoid, tanh };

struct Activation {
  Function function = Function::none;
  float slope = 0;  // of leaky_relu below zero
};

// By the name that inference.graph has for it; empty for none. Throws std::invalid_argument for others.
Activation find_activation(const std::string& name, double slope);

}  // namespace dwf
