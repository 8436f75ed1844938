// SPDX-License-Identifier: Apache-2.0
#include "data/array_metadata.h"

#include <algorithm>
#include <array>

#include "data/array_check.h"
#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

// Type, extent, and where the elements are.
class ArrayParser {
 public:
  ArrayParser(const h5::Context& context, hid_t dataset, ArrayForm form, std::string path, int64_t file_bytes)
      : context_(context), dataset_(dataset), form_(form), file_bytes_(file_bytes) {
    array_.path = std::move(path);
  }

  ArrayDescriptor run() {
    parse_type();
    parse_extent();
    parse_storage();
    array_.content_xxh3 = h5::read_uint(context_, dataset_, "content_xxh3");
    return array_;
  }

 private:
  void parse_type() {
    const h5::Handle type(H5Dget_type(dataset_), H5Tclose);
    const H5T_class_t kind = H5Tget_class(type.get());
    const bool floats = form_ == ArrayForm::reals || form_ == ArrayForm::real_rows;
    if (kind != (floats ? H5T_FLOAT : H5T_INTEGER)) {
      refuse(fmt::format("of {}; {} are needed",
                         kind == H5T_FLOAT     ? "floating-point numbers"
                         : kind == H5T_INTEGER ? "integers"
                         : kind == H5T_STRING  ? "strings"
                                               : "a compound or opaque type",
                         floats ? "floating-point numbers" : "integers"));
    }
    const size_t width = H5Tget_size(type.get());
    const bool known = floats ? width == 4 || width == 8 : width == 1 || width == 2 || width == 4 || width == 8;
    if (!known) refuse(fmt::format("of {}-byte {}", width, floats ? "floating-point numbers" : "integers"));
    array_.width = static_cast<int32_t>(width);
    array_.is_float = floats;
    array_.is_signed = !floats && H5Tget_sign(type.get()) == H5T_SGN_2;
    direct_ = width == 1 || H5Tget_order(type.get()) == H5T_ORDER_LE;
    // Padding bits would need the library's conversion.
    direct_ = direct_ && H5Tget_precision(type.get()) == width * 8;
  }

  void parse_extent() {
    const h5::Handle space(H5Dget_space(dataset_), H5Sclose);
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (form_ == ArrayForm::reals) {
      if (rank != 1) refuse(fmt::format("of rank {}; rank 1 is needed", rank));
    } else if (form_ == ArrayForm::integers) {
      if (rank != 1) refuse(fmt::format("of rank {}; rank 1 is needed: store the documents one after another", rank));
    } else if (rank != 2) {
      refuse(fmt::format("of rank {}; rank 2 is needed: [rows, columns]", rank));
    }
    std::array<hsize_t, 2> extents{1, 1};
    H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr);
    constexpr auto kMost = static_cast<hsize_t>(kMaxExtent);
    for (const hsize_t extent : extents) {
      if (extent > kMost || (extents[1] > 0 && extents[0] > kMost / extents[1])) {
        refuse(fmt::format("of an absurd extent, {}", extent));
      }
    }
    array_.columns = rank == 2 ? static_cast<int64_t>(extents[1]) : 0;
    array_.size = static_cast<int64_t>(extents[0] * extents[1]);
  }

  void parse_storage() {
    const h5::Handle creation(H5Dget_create_plist(dataset_), H5Pclose);
    if (H5Pget_external_count(creation.get()) > 0) refuse("stored in external files, which are not accepted");
    const H5D_layout_t layout = H5Pget_layout(creation.get());
    if (layout == H5D_VIRTUAL) refuse("a virtual dataset, which is not accepted: list the files instead");
    const bool filtered = parse_filters(creation.get());
    array_.storage = Storage::library;
    if (layout == H5D_CHUNKED) parse_chunks(creation.get(), filtered);
    if (layout == H5D_CONTIGUOUS && direct_) parse_contiguous();
  }

  bool parse_filters(hid_t creation) {
    const int count = H5Pget_nfilters(creation);
    for (int i = 0; i < count; ++i) {
      unsigned flags = 0, config = 0;
      size_t values = 0;
      char name[64] = {};
      const auto filter =
          H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values, nullptr, sizeof(name), name, &config);
      if (filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_FLETCHER32) continue;
      refuse(fmt::format("filtered with '{}' (number {}); shuffle, deflate and fletcher32 are accepted",
                         static_cast<const char*>(name), static_cast<int>(filter)));
    }
    return count > 0;
  }

  void parse_chunks(hid_t creation, bool filtered) {
    const int rank = array_.columns > 0 ? 2 : 1;
    std::array<hsize_t, 2> shape{1, 1};
    if (H5Pget_chunk(creation, rank, shape.data()) != rank) refuse("of chunks of another rank");
    const hsize_t most = static_cast<hsize_t>(kMaxChunkBytes / array_.width);
    if (shape[0] < 1 || shape[1] < 1 || shape[0] > most / shape[1]) {
      refuse(fmt::format("of chunks of {} x {} elements; 64 MiB are accepted", shape[0], shape[1]));
    }
    const int64_t columns = std::max<int64_t>(1, array_.columns);
    // Blocks of whole rows, whatever the shape of the chunks: the library puts them together.
    array_.chunk = static_cast<int64_t>(shape[0]) * columns;
    if (array_.chunk > kMaxChunkBytes / array_.width) array_.chunk = columns;
    if (filtered || !direct_ || static_cast<int64_t>(shape[1]) != columns) return;
    const int64_t chunks = (array_.size + array_.chunk - 1) / array_.chunk;
    if (array_.size * array_.width > file_bytes_) refuse("larger than its file");
    for (int64_t i = 0; i < chunks; ++i) {
      const std::array<hsize_t, 2> start{static_cast<hsize_t>(i) * shape[0], 0};
      unsigned mask = 0;
      haddr_t address = HADDR_UNDEF;
      hsize_t size = 0;
      if (H5Dget_chunk_info_by_coord(dataset_, start.data(), &mask, &address, &size) < 0 || address == HADDR_UNDEF) {
        H5Eclear2(H5E_DEFAULT);
        array_.chunk_offsets.clear();  // a chunk that was never written: the library knows its fill value
        return;
      }
      array_.chunk_offsets.push_back(static_cast<int64_t>(address));
    }
    array_.storage = Storage::chunked;
  }

  void parse_contiguous() {
    const haddr_t offset = H5Dget_offset(dataset_);
    if (offset == HADDR_UNDEF) return;  // never written
    array_.storage = Storage::contiguous;
    array_.offset = static_cast<int64_t>(offset);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' is {}", context_.file, array_.path, what);
  }

  h5::Context context_;
  hid_t dataset_;
  ArrayForm form_;
  int64_t file_bytes_;
  ArrayDescriptor array_;
  bool direct_ = false;
};

}  // namespace

ArrayDescriptor describe_array(const h5::Context& context, hid_t dataset, ArrayForm form, const std::string& path,
                               int64_t file_bytes) {
  return ArrayParser(context, dataset, form, path, file_bytes).run();
}

void read_array_head(const std::string& file, int64_t file_bytes, ArrayDescriptor& array) {
  const int64_t offset = array.storage == Storage::contiguous                                ? array.offset
                         : array.storage == Storage::chunked && !array.chunk_offsets.empty() ? array.chunk_offsets[0]
                                                                                             : 0;
  const int64_t bytes = std::min(
      {static_cast<int64_t>(kHeadBytes), array.storage == Storage::library ? file_bytes : array.size * array.width});
  array.head.assign(static_cast<size_t>(bytes), '\0');
  File::open_read(file).read_at(offset, array.head.data(), array.head.size());
}

}  // namespace farsight
