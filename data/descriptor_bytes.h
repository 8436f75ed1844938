// SPDX-License-Identifier: Apache-2.0
// The flat form of descriptors: little-endian integers, strings and lists preceded by their length. Used by
// *_descriptor.cc only.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "data/data_file.h"
#include "kernels/error.h"

namespace farsight {

// One function per type describes both directions, so they cannot disagree.
class DescriptorWriter {
 public:
  void number(uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value)); }
  void field(const std::string& value) {
    number(value.size());
    bytes_ += value;
  }
  template <typename T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void field(const T& value) { number(static_cast<uint64_t>(value)); }
  void field(double value) { number(std::bit_cast<uint64_t>(value)); }
  void field(float value) { field(static_cast<double>(value)); }
  template <typename T, typename Each>
  void list(const std::vector<T>& values, Each each) {
    number(values.size());
    for (const T& value : values) each(*this, value);
  }
  template <typename T, typename Each>
  void maybe(const std::optional<T>& value, Each each) {
    number(value.has_value() ? 1 : 0);
    if (value) each(*this, *value);
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class DescriptorReader {
 public:
  explicit DescriptorReader(std::string_view bytes) : rest_(bytes) {}
  uint64_t number() {
    uint64_t value = 0;
    std::memcpy(&value, bytes(sizeof(value)).data(), sizeof(value));
    return value;
  }
  void field(std::string& value) { value = std::string(bytes(number())); }
  template <typename T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void field(T& value) { value = static_cast<T>(number()); }
  void field(double& value) { value = std::bit_cast<double>(number()); }
  void field(float& value) { value = static_cast<float>(std::bit_cast<double>(number())); }
  template <typename T, typename Each>
  void list(std::vector<T>& values, Each each) {
    const uint64_t count = number();
    if (count > rest_.size()) refuse();  // every element takes at least one byte
    values.assign(count, T{});
    for (T& value : values) each(*this, value);
  }
  template <typename T, typename Each>
  void maybe(std::optional<T>& value, Each each) {
    value.reset();
    if (number() != 0) each(*this, value.emplace());
  }
  void expect_end() const {
    if (!rest_.empty()) refuse();
  }
  [[noreturn]] static void refuse() { fail(ErrorKind::internal, "descriptor: the bytes are not one"); }

 private:
  std::string_view bytes(uint64_t count) {
    if (count > rest_.size()) refuse();
    const std::string_view found = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return found;
  }
  std::string_view rest_;
};

inline constexpr auto kPlainField = [](auto& stream, auto& value) { stream.field(value); };

inline constexpr auto kArrayFields = [](auto& stream, auto& array) {
  stream.field(array.path);
  stream.field(array.width);
  stream.field(array.is_signed);
  stream.field(array.is_float);
  stream.field(array.columns);
  stream.field(array.size);
  stream.field(array.storage);
  stream.field(array.offset);
  stream.field(array.chunk);
  stream.list(array.chunk_offsets, kPlainField);
  stream.field(array.head);
  stream.maybe(array.content_xxh3, kPlainField);
};

inline constexpr auto kInfoFields = [](auto& stream, auto& info) {
  stream.field(info.file);
  stream.field(info.file_bytes);
  stream.field(info.uuid);
  stream.field(info.licence);
  stream.list(info.source_names, kPlainField);
  stream.field(info.normalised);
  stream.field(info.sidecar);
};

}  // namespace farsight
