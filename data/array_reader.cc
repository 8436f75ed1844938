// SPDX-License-Identifier: Apache-2.0
#include "data/array_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/error.h"

namespace farsight {

namespace {

// Contiguous elements or unfiltered chunks, read at their addresses.
class PreadArray : public ArrayReader {
 public:
  PreadArray(const File& file, const ArrayDescriptor& array) : file_(file), array_(array) {}

  void read(int64_t begin, int64_t count, std::byte* out) override {
    each_part(begin, count, [&](int64_t offset, int64_t bytes) {
      file_.read_at(offset, out, static_cast<size_t>(bytes));
      out += bytes;
    });
  }

  void will_need(int64_t begin, int64_t count) override {
    each_part(begin, count, [&](int64_t offset, int64_t bytes) {
      posix_fadvise(file_.descriptor(), offset, bytes, POSIX_FADV_WILLNEED);
    });
  }

 private:
  template <typename Visit>
  void each_part(int64_t begin, int64_t count, Visit visit) {
    if (array_.storage == Storage::contiguous) {
      if (count > 0) visit(array_.offset + begin * array_.width, count * array_.width);
      return;
    }
    while (count > 0) {
      const int64_t chunk = begin / array_.chunk, inside = begin % array_.chunk;
      const int64_t part = std::min(count, array_.chunk - inside);
      visit(array_.chunk_offsets[static_cast<size_t>(chunk)] + inside * array_.width, part * array_.width);
      begin += part;
      count -= part;
    }
  }

  const File& file_;
  ArrayDescriptor array_;
};

// A shared read-only mapping of a contiguous array: one copy in the page cache for all ranks of a node.
class MappedArray : public ArrayReader {
 public:
  MappedArray(const File& file, const ArrayDescriptor& array) : file_(file), array_(array) {
    const auto page = static_cast<int64_t>(sysconf(_SC_PAGESIZE));
    const int64_t skip = array.offset % page;
    length_ = static_cast<size_t>(skip + array.size * array.width);
    base_ = mmap(nullptr, length_, PROT_READ, MAP_SHARED, file.descriptor(), array.offset - skip);
    if (base_ == MAP_FAILED) {
      fail(ErrorKind::environment, "{}: cannot map '{}' ({} bytes): {}; use data.io = \"pread\"", file.path(),
           array.path, length_, std::strerror(errno));
    }
    madvise(base_, length_, MADV_RANDOM);
    first_ = static_cast<const std::byte*>(base_) + skip;
  }
  ~MappedArray() override { munmap(base_, length_); }
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;

  void read(int64_t begin, int64_t count, std::byte* out) override {
    std::memcpy(out, first_ + begin * array_.width, static_cast<size_t>(count * array_.width));
  }

  const std::byte* mapped() const override { return first_; }

  void will_need(int64_t begin, int64_t count) override {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto from = reinterpret_cast<uintptr_t>(first_ + begin * array_.width);
    const uintptr_t start = from - from % page;
    madvise(reinterpret_cast<void*>(start), from - start + static_cast<size_t>(count * array_.width), MADV_WILLNEED);
  }

 private:
  const File& file_;
  ArrayDescriptor array_;
  void* base_ = nullptr;
  const std::byte* first_ = nullptr;
  size_t length_ = 0;
};

template <typename T>
T load_as(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// Converts and finds out whether any id is outside. An id v is inside [0, n) if neither v nor n - 1 - v is negative:
// collecting both sign bits keeps the loop free of branches and comparisons, so that it is vectorised.
template <typename T>
bool convert_ids(const std::byte* source, std::span<int32_t> out, int64_t vocabulary) {
  using Signed = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
  using Bits = std::make_unsigned_t<Signed>;
  const auto last = static_cast<Bits>(vocabulary - 1);
  Bits signs = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const auto value = static_cast<Bits>(static_cast<Signed>(load_as<T>(source + i * sizeof(T))));
    signs |= value | (last - value);
    out[i] = static_cast<int32_t>(value);
  }
  return static_cast<Signed>(signs) < 0;
}

bool convert_ids(const std::byte* source, const ArrayDescriptor& array, std::span<int32_t> out, int64_t vocabulary) {
  switch (array.width * 2 + (array.is_signed ? 1 : 0)) {
    case 2:
      return convert_ids<uint8_t>(source, out, vocabulary);
    case 3:
      return convert_ids<int8_t>(source, out, vocabulary);
    case 4:
      return convert_ids<uint16_t>(source, out, vocabulary);
    case 5:
      return convert_ids<int16_t>(source, out, vocabulary);
    case 8:
      return convert_ids<uint32_t>(source, out, vocabulary);
    case 9:
      return convert_ids<int32_t>(source, out, vocabulary);
    case 16:
      return convert_ids<uint64_t>(source, out, vocabulary);
    default:
      return convert_ids<int64_t>(source, out, vocabulary);
  }
}

}  // namespace

std::unique_ptr<ArrayReader> open_array(const File& file, const ArrayDescriptor& array, DataIo io) {
  if (array.storage == Storage::library) return open_library_array(file.path(), array);
  const bool mappable = array.storage == Storage::contiguous && array.size > 0;
  if (mappable && (io == DataIo::map || (io == DataIo::automatic && !on_network_file_system(file)))) {
    return std::make_unique<MappedArray>(file, array);
  }
  return std::make_unique<PreadArray>(file, array);
}

int64_t load_integer(const std::byte* at, int width, bool is_signed) {
  switch (width) {
    case 1:
      return is_signed ? load_as<int8_t>(at) : load_as<uint8_t>(at);
    case 2:
      return is_signed ? load_as<int16_t>(at) : load_as<uint16_t>(at);
    case 4:
      return is_signed ? load_as<int32_t>(at) : load_as<uint32_t>(at);
    default:
      return load_as<int64_t>(at);
  }
}

const std::byte* IntegerArray::load(int64_t begin, int64_t count) {
  if (begin < 0 || count < 0 || begin > array_.size - count) {
    fail(ErrorKind::internal, "'{}': elements {}..{} of {}", array_.path, begin, begin + count, array_.size);
  }
  if (const std::byte* first = reader_->mapped()) return first + begin * array_.width;
  buffer_.resize(static_cast<size_t>(count * array_.width));
  reader_->read(begin, count, buffer_.data());
  return buffer_.data();
}

int64_t IntegerArray::at(int64_t index) { return load_integer(load(index, 1), array_.width, array_.is_signed); }

void IntegerArray::read(int64_t begin, std::span<int64_t> out) {
  const std::byte* raw = load(begin, static_cast<int64_t>(out.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = load_integer(raw + i * static_cast<size_t>(array_.width), array_.width, array_.is_signed);
  }
}

void IntegerArray::read_tokens(int64_t begin, std::span<int32_t> out, int64_t vocabulary) {
  const auto count = static_cast<int64_t>(out.size());
  if (convert_ids(load(begin, count), array_, out, vocabulary)) refuse_tokens(begin, count, vocabulary);
}

void IntegerArray::read_pairs(int64_t begin, std::span<int32_t> inputs, std::span<int32_t> labels, int64_t vocabulary) {
  const auto count = static_cast<int64_t>(inputs.size()) + 1;
  const std::byte* raw = load(begin, count);
  // Parts that stay in the first-level cache: the tokens are converted twice instead of copied.
  constexpr size_t kPart = 2048;
  for (size_t at = 0; at < inputs.size(); at += kPart) {
    const size_t part = std::min(kPart, inputs.size() - at);
    const std::byte* first = raw + at * static_cast<size_t>(array_.width);
    const bool outside = convert_ids(first, array_, inputs.subspan(at, part), vocabulary);
    if (convert_ids(first + array_.width, array_, labels.subspan(at, part), vocabulary) || outside) {
      refuse_tokens(begin, count, vocabulary);
    }
  }
}

void IntegerArray::refuse_tokens(int64_t begin, int64_t count, int64_t vocabulary) {
  const std::byte* raw = load(begin, count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = load_integer(raw + i * array_.width, array_.width, array_.is_signed);
    if (id >= 0 && id < vocabulary) continue;
    fail(ErrorKind::data, "{}: '{}' holds token id {}, vocabulary is {} (first at index {})", file_, array_.path, id,
         vocabulary, with_commas(begin + i));
  }
  fail(ErrorKind::data, "{}: '{}' changed while it was read", file_, array_.path);
}

const float* RealRows::load(int64_t begin, int64_t count) {
  const int64_t first = begin * columns(), elements = count * columns();
  if (begin < 0 || count < 0 || first > array_.size - elements) {
    fail(ErrorKind::internal, "'{}': rows {}..{} of {}", array_.path, begin, begin + count, array_.size / columns());
  }
  const std::byte* raw = reader_->mapped();
  if (raw != nullptr) {
    raw += first * array_.width;
    // An h5py file need not align its arrays.
    if (array_.width == 4 && reinterpret_cast<uintptr_t>(raw) % alignof(float) == 0) {
      return reinterpret_cast<const float*>(raw);
    }
  } else {
    bytes_.resize(static_cast<size_t>(elements * array_.width));
    reader_->read(first, elements, bytes_.data());
    raw = bytes_.data();
  }
  values_.resize(static_cast<size_t>(elements));
  for (size_t i = 0; i < values_.size(); ++i) {
    values_[i] = array_.width == 4 ? load_as<float>(raw + i * 4) : static_cast<float>(load_as<double>(raw + i * 8));
  }
  return values_.data();
}

}  // namespace farsight
