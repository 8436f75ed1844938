// SPDX-License-Identifier: Apache-2.0
#include "data/array_check.h"

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

class ArrayCheck {
 public:
  ArrayCheck(const DataFileInfo& info, const ArrayDescriptor& array) : info_(info), array_(array) {}

  void run() const {
    if (array_.width != 1 && array_.width != 2 && array_.width != 4 && array_.width != 8) {
      refuse(fmt::format("elements of {} bytes; 1, 2, 4 or 8 are accepted", array_.width));
    }
    if (array_.columns < 0 || (array_.columns > 0 && array_.size % array_.columns != 0)) {
      refuse(fmt::format("{} elements in rows of {}", array_.size, array_.columns));
    }
    if (array_.size < 0 || array_.size > kMaxExtent) refuse(fmt::format("an extent of {}", array_.size));
    const int64_t factor = array_.storage == Storage::library ? kMaxExpansion : 1;
    if (array_.size * array_.width / factor > info_.file_bytes) {
      refuse(fmt::format("{} bytes of data in a file of {} bytes", with_commas(array_.size * array_.width),
                         with_commas(info_.file_bytes)));
    }
    if (array_.storage == Storage::contiguous) check_range(array_.offset, array_.size * array_.width);
    if (array_.storage == Storage::chunked) check_chunks();
    if (array_.storage == Storage::library && array_.chunk != 0) check_chunk_size();
    if (array_.storage > Storage::library) refuse("of an unknown storage");
    if (array_.head.size() > kHeadBytes) refuse("a head of more than 64 bytes");
  }

 private:
  void check_range(int64_t offset, int64_t bytes) const {
    if (array_.size == 0) return;
    if (offset < 0 || offset > info_.file_bytes || bytes > info_.file_bytes - offset) {
      refuse(fmt::format("bytes {}..{} of a file of {} bytes", with_commas(offset), with_commas(offset + bytes),
                         with_commas(info_.file_bytes)));
    }
  }

  void check_chunk_size() const {
    if (array_.chunk < 1 || array_.chunk > kMaxChunkBytes / array_.width) {
      refuse(fmt::format("chunks of {} elements", array_.chunk));
    }
  }

  void check_chunks() const {
    check_chunk_size();
    const int64_t expected = (array_.size + array_.chunk - 1) / array_.chunk;
    if (static_cast<int64_t>(array_.chunk_offsets.size()) != expected) {
      refuse(fmt::format("{} chunks where {} are needed", array_.chunk_offsets.size(), expected));
    }
    for (const int64_t offset : array_.chunk_offsets) check_range(offset, array_.chunk * array_.width);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' claims {}: damaged or hostile file", info_.file, array_.path, what);
  }

  const DataFileInfo& info_;
  const ArrayDescriptor& array_;
};

}  // namespace

void check_array(const DataFileInfo& info, const ArrayDescriptor& array) { ArrayCheck(info, array).run(); }

}  // namespace farsight
