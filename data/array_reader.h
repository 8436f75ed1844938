// SPDX-License-Identifier: Apache-2.0
// Reads ranges of one array of a data file, whatever its storage.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/file.h"

namespace farsight {

class ArrayReader {
 public:
  virtual ~ArrayReader() = default;
  // Copies the little-endian elements [begin, begin + count), `array.width` bytes each, to `out`.
  // Error{data} when the file has become shorter, Error{io} for a read error; the message names file and offset.
  virtual void read(int64_t begin, int64_t count, std::byte* out) = 0;
  // Asks the operating system for these elements. Never fails.
  virtual void will_need(int64_t begin, int64_t count) = 0;
  // Element 0 when the array is mapped, else nullptr. The caller has checked the size of the file.
  virtual const std::byte* mapped() const { return nullptr; }
};

// `file` must outlive the reader. Arrays with Storage::library are decoded by libhdf5 under its lock, a few chunks
// kept.
std::unique_ptr<ArrayReader> open_array(const File& file, const ArrayDescriptor& array, DataIo io);

// In array_library.cc, the only reader that uses libhdf5.
std::unique_ptr<ArrayReader> open_library_array(const std::string& file, const ArrayDescriptor& array);

// One little-endian integer of 1, 2, 4 or 8 bytes.
int64_t load_integer(const std::byte* at, int width, bool is_signed);

// An array of integers of any width, element by element or as a block.
class IntegerArray {
 public:
  IntegerArray(const File& file, const ArrayDescriptor& array, DataIo io)
      : file_(file.path()), reader_(open_array(file, array, io)), array_(array) {}
  const ArrayDescriptor& descriptor() const { return array_; }
  int64_t size() const { return array_.size; }
  int64_t at(int64_t index);
  void read(int64_t begin, std::span<int64_t> out);
  // Token ids; Error{data} naming array, id and index when an id is outside [0, vocabulary).
  void read_tokens(int64_t begin, std::span<int32_t> out, int64_t vocabulary);
  // Elements [begin, begin + n) as inputs and [begin + 1, begin + n + 1) as labels, n the size of both; the same error.
  void read_pairs(int64_t begin, std::span<int32_t> inputs, std::span<int32_t> labels, int64_t vocabulary);
  void will_need(int64_t begin, int64_t count) { reader_->will_need(begin, count); }
  // The little-endian bytes of elements [begin, begin + count), valid until the next call.
  const std::byte* load(int64_t begin, int64_t count);

 private:
  [[noreturn]] void refuse_tokens(int64_t begin, int64_t count, int64_t vocabulary);

  std::string file_;
  std::unique_ptr<ArrayReader> reader_;
  ArrayDescriptor array_;
  std::vector<std::byte> buffer_;
};

// Rows of floating-point numbers, as f32.
class RealRows {
 public:
  RealRows(const File& file, const ArrayDescriptor& array, DataIo io)
      : reader_(open_array(file, array, io)), array_(array) {}
  const ArrayDescriptor& descriptor() const { return array_; }
  int64_t columns() const { return array_.columns; }
  // Rows [begin, begin + count) as f32 [count, columns], valid until the next call: the mapped file itself where it can
  // be.
  const float* load(int64_t begin, int64_t count);
  void will_need(int64_t begin, int64_t count) { reader_->will_need(begin * columns(), count * columns()); }

 private:
  std::unique_ptr<ArrayReader> reader_;
  ArrayDescriptor array_;
  std::vector<std::byte> bytes_;
  std::vector<float> values_;
};

}  // namespace farsight
