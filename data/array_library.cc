// SPDX-License-Identifier: Apache-2.0
// Arrays that only libhdf5 can decode (filtered, compact, foreign byte order), read by whole chunks under its lock.
#include <algorithm>
#include <array>
#include <list>

#include "data/array_check.h"
#include "data/array_reader.h"
#include "data/hdf5.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kKeptChunks = 10;
constexpr int64_t kUnchunkedBlock = 1 << 18;  // elements

hid_t native_type(const ArrayDescriptor& array) {
  if (array.is_float) return array.width == 4 ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
  const bool is_signed = array.is_signed;
  switch (array.width) {
    case 1:
      return is_signed ? H5T_NATIVE_INT8 : H5T_NATIVE_UINT8;
    case 2:
      return is_signed ? H5T_NATIVE_INT16 : H5T_NATIVE_UINT16;
    case 4:
      return is_signed ? H5T_NATIVE_INT32 : H5T_NATIVE_UINT32;
    default:
      return is_signed ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64;
  }
}

class LibraryArray : public ArrayReader {
 public:
  LibraryArray(const std::string& file, const ArrayDescriptor& array)
      : context_{.file = file, .kind = ErrorKind::data},
        array_(array),
        columns_(std::max<int64_t>(1, array.columns)),
        block_(array.chunk > 0 ? array.chunk : std::max<int64_t>(1, kUnchunkedBlock / columns_) * columns_) {
    const h5::Lock lock;  // outlives the handles below, also when something throws
    h5::Handle opened = h5::open_file(context_);
    h5::Handle dataset = h5::open_dataset(context_, opened.get(), array.path);
    const h5::Handle space(H5Dget_space(dataset.get()), H5Sclose);
    if (H5Sget_simple_extent_npoints(space.get()) != array.size) {
      fail(ErrorKind::data, "{}: '{}' has changed since it was described", file, array.path);
    }
    file_ = std::move(opened);
    dataset_ = std::move(dataset);
  }

  ~LibraryArray() override {
    const h5::Lock lock;
    dataset_.close();
    file_.close();
  }
  LibraryArray(const LibraryArray&) = delete;
  LibraryArray& operator=(const LibraryArray&) = delete;

  void read(int64_t begin, int64_t count, std::byte* out) override {
    while (count > 0) {
      const int64_t inside = begin % block_;
      const int64_t part = std::min(count, block_ - inside);
      const Block& block = fetch(begin / block_);
      const auto* first = block.bytes.data() + inside * array_.width;
      std::copy_n(first, part * array_.width, out);
      out += part * array_.width;
      begin += part;
      count -= part;
    }
  }

  void will_need(int64_t /*begin*/, int64_t /*count*/) override {}  // decoding is the cost, not the disk

 private:
  struct Block {
    int64_t index = 0;
    std::vector<std::byte> bytes;
  };

  const Block& fetch(int64_t index) {
    const auto found = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.index == index; });
    if (found != blocks_.end()) {
      blocks_.splice(blocks_.begin(), blocks_, found);
      return blocks_.front();
    }
    Block block{.index = index, .bytes = decode(index)};
    if (blocks_.size() >= kKeptChunks) blocks_.pop_back();
    blocks_.push_front(std::move(block));
    return blocks_.front();
  }

  std::vector<std::byte> decode(int64_t index) {
    const h5::Lock lock;
    const int64_t elements = std::min(block_, array_.size - index * block_);
    const int rank = array_.columns > 0 ? 2 : 1;
    const std::array<hsize_t, 2> start{static_cast<hsize_t>(index * block_ / columns_), 0};
    const std::array<hsize_t, 2> extent{static_cast<hsize_t>(elements / columns_), static_cast<hsize_t>(columns_)};
    std::vector<std::byte> bytes(static_cast<size_t>(elements * array_.width));
    const h5::Handle memory(H5Screate_simple(rank, extent.data(), nullptr), H5Sclose);
    const h5::Handle space(H5Dget_space(dataset_.get()), H5Sclose);
    H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr);
    context_.ok(H5Dread(dataset_.get(), native_type(array_), memory.get(), space.get(), H5P_DEFAULT, bytes.data()),
                array_.path, "cannot read");
    return bytes;
  }

  h5::Context context_;
  ArrayDescriptor array_;
  int64_t columns_;
  int64_t block_;  // elements, whole rows
  h5::Handle file_, dataset_;
  std::list<Block> blocks_;  // most recently used first
};

}  // namespace

std::unique_ptr<ArrayReader> open_library_array(const std::string& file, const ArrayDescriptor& array) {
  return std::make_unique<LibraryArray>(file, array);
}

}  // namespace farsight
