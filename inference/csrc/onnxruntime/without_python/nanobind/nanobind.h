// The part of nanobind that the ops' bindings use, for calls that come from a file instead of from Python.
//
// The onnxruntime library has no Python. Its ops are those of the Python module, and so are the checks of their
// arguments: the files in ops/ are compiled once more with this folder in place of nanobind, so that
// `builder.def("name", function, "argument"_a, ...)` makes an entry in a table from names to functions of a list of
// values. What is added to the engine is thereby in the library too.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "onnxruntime/value.h"

namespace nanobind {

using dwf::SharedValue;
using dwf::Value;

[[noreturn]] inline void refuse(const char* wanted) {
  throw std::invalid_argument(std::string("an argument is not ") + wanted);
}

// A value of any kind.
class object {
 public:
  object() = default;
  explicit object(SharedValue value) : value_(std::move(value)) {}
  bool is_none() const { return value_ == nullptr || value_->kind == Value::Kind::none; }
  const SharedValue& shared() const { return value_; }

 private:
  SharedValue value_;
};

inline object none() { return {}; }

// How a parameter of a type is made of a value: `T take(const SharedValue&)`.
template <class T>
struct Taken;

template <class T>
T cast(const object& given, bool convert = true) {
  static_cast<void>(convert);
  if (given.is_none()) refuse("there");
  return Taken<T>::take(given.shared());
}

template <>
struct Taken<object> {
  static object take(const SharedValue& value) { return object(value); }
};

template <>
struct Taken<bool> {
  static bool take(const SharedValue& value) {
    if (value->kind != Value::Kind::boolean) refuse("true or false");
    return value->integer != 0;
  }
};

template <>
struct Taken<double> {
  static double take(const SharedValue& value) {
    if (value->kind == Value::Kind::integer) return static_cast<double>(value->integer);
    if (value->kind != Value::Kind::real) refuse("a number");
    return value->real;
  }
};

template <>
struct Taken<int> {
  static int take(const SharedValue& value) {
    if (value->kind != Value::Kind::integer || value->integer < std::numeric_limits<int>::min() ||
        value->integer > std::numeric_limits<int>::max())
      refuse("an integer of 32 bits");
    return static_cast<int>(value->integer);
  }
};

template <>
struct Taken<std::size_t> {
  static std::size_t take(const SharedValue& value) {
    if (value->kind != Value::Kind::integer || value->integer < 0) refuse("a count");
    return static_cast<std::size_t>(value->integer);
  }
};

template <>
struct Taken<std::string> {
  static std::string take(const SharedValue& value) {
    if (value->kind != Value::Kind::text) refuse("a text");
    return value->text;
  }
};

// An item of a list, which the list keeps.
inline SharedValue item(const SharedValue& list, std::size_t k) { return SharedValue(list, &list->list[k]); }

template <class T>
struct Taken<std::vector<T>> {
  static std::vector<T> take(const SharedValue& value) {
    if (value->kind != Value::Kind::list) refuse("a list");
    std::vector<T> made;
    for (std::size_t k = 0; k < value->list.size(); ++k) made.push_back(Taken<T>::take(item(value, k)));
    return made;
  }
};

template <class T, std::size_t size>
struct Taken<std::array<T, size>> {
  static std::array<T, size> take(const SharedValue& value) {
    if (value->kind != Value::Kind::list || value->list.size() != size) refuse("a list of so many items");
    std::array<T, size> made;
    for (std::size_t k = 0; k < size; ++k) made[k] = Taken<T>::take(item(value, k));
    return made;
  }
};

template <class... T>
struct Taken<std::tuple<T...>> {
  static std::tuple<T...> take(const SharedValue& value) {
    if (value->kind != Value::Kind::list || value->list.size() != sizeof...(T)) refuse("a list of so many items");
    return all(value, std::index_sequence_for<T...>());
  }
  template <std::size_t... k>
  static std::tuple<T...> all(const SharedValue& value, std::index_sequence<k...>) {
    return {Taken<T>::take(item(value, k))...};
  }
};

template <class T>
struct Taken<std::optional<T>> {
  static std::optional<T> take(const SharedValue& value) {
    if (value->kind == Value::Kind::none) return std::nullopt;
    return Taken<T>::take(value);
  }
};

// A parameter's name, which a call by position does not need, and what it is where the call leaves it out.
template <class Default>
struct arg_with_default {
  const Default value;
};

struct arg {
  const arg& noconvert(bool = true) const { return *this; }
  template <class Default>
  arg_with_default<Default> operator=(Default value) const {
    return {std::move(value)};
  }
};

namespace literals {
constexpr arg operator""_a(const char*, std::size_t) { return {}; }
}  // namespace literals

template <class T>
T left_out(const arg&) {
  throw std::invalid_argument("an argument is missing");
}

template <class T, class Default>
T left_out(const arg_with_default<Default>& each) {
  if constexpr (std::is_same_v<Default, object> && !std::is_same_v<T, object>) {
    return T();  // none
  } else {
    return T(each.value);
  }
}

// Functions of an object of the class, by name.
template <class Class>
class class_ {
 public:
  using Values = std::vector<SharedValue>;

  template <class Function, class... Extra>
  class_& def(const char* name, Function function, const Extra&... extra) {
    return add(name, std::function(function), extra...);
  }

  // Throws std::invalid_argument for another name, and whatever the function throws.
  void call(const std::string& name, Class& self, const Values& values) const {
    const auto found = functions_.find(name);
    if (found == functions_.end()) throw std::invalid_argument("there is no op \"" + name + "\"");
    found->second(self, values);
  }

 private:
  template <class... Parameters, class... Extra>
  class_& add(const char* name, std::function<void(Class&, Parameters...)> function, const Extra&... extra) {
    static_assert(sizeof...(Parameters) == sizeof...(Extra), "every parameter has a name");
    functions_[name] = [function, extras = std::tuple<Extra...>(extra...)](Class& self, const Values& values) {
      if (values.size() > sizeof...(Parameters)) throw std::invalid_argument("a call has too many arguments");
      call_one<Parameters...>(function, self, values, extras, std::index_sequence_for<Parameters...>());
    };
    return *this;
  }

  template <class... Parameters, class Function, class Extras, std::size_t... k>
  static void call_one(const Function& function, Class& self, const Values& values, const Extras& extras,
                       std::index_sequence<k...>) {
    function(self, (k < values.size() ? Taken<std::decay_t<Parameters>>::take(values[k])
                                      : left_out<std::decay_t<Parameters>>(std::get<k>(extras)))...);
  }

  std::map<std::string, std::function<void(Class&, const Values&)>> functions_;
};

}  // namespace nanobind
