// SPDX-License-Identifier: Apache-2.0
#include "data/data_writer.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <ctime>

#include <xxhash.h>

#include "data/file.h"
#include "data/sidecar.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kFormatVersion = 1;
constexpr size_t kMaxListedSources = 1000;

std::string format_uuid(std::array<uint8_t, 16> bytes, int version) {
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0F) | (version << 4));
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3F) | 0x80);
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

std::string random_uuid() {
  std::array<uint8_t, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    fail(ErrorKind::environment, "the system gives no random bytes for a uuid");
  }
  return format_uuid(bytes, 4);
}

// Version 8 of RFC 9562: derived from the content, here the hashes of all datasets and the tokeniser.
std::string content_uuid(const std::string& content) {
  const XXH128_hash_t hash = XXH3_128bits(content.data(), content.size());
  std::array<uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &hash, sizeof(hash));
  return format_uuid(bytes, 8);
}

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

void write_provenance(const h5::Context& context, hid_t file, const DataFileHeader& header, const std::string& kind) {
  h5::write_string(context, file, "format", "farsight-data");
  h5::write_int(context, file, "format_version", kFormatVersion);
  h5::write_string(context, file, "kind", kind);
  h5::write_string(context, file, "tool", header.tool);
  h5::write_string(context, file, "command", header.command);
  h5::write_string(context, file, "licence", header.licence);
  h5::write_string(context, file, "normalised", header.normalised);
  // Attributes stay below 64 KiB: a longer list of sources is cut.
  const size_t listed = std::min(header.source_names.size(), kMaxListedSources);
  const auto cut = [listed](const std::vector<std::string>& all) {
    return std::vector<std::string>(all.begin(),
                                    all.begin() + static_cast<std::ptrdiff_t>(std::min(listed, all.size())));
  };
  h5::write_strings(context, file, "source_name", cut(header.source_names));
  h5::write_strings(context, file, "source_sha256", cut(header.source_sha256));
  h5::write_int(context, file, "source_count", static_cast<int64_t>(header.source_names.size()));
}

std::string write_hdf5(const std::string& path, const DataFileHeader& header, const std::string& kind,
                       const FillDataFile& fill) {
  const h5::Lock lock;
  const h5::Context context{.file = path, .kind = ErrorKind::io};
  h5::Handle file = h5::create_file(context);
  write_provenance(context, file.get(), header, kind);
  const std::string content = fill(context, file.get());
  const std::string uuid = header.reproducible ? content_uuid(content) : random_uuid();
  h5::write_string(context, file.get(), "uuid", uuid);
  h5::write_string(context, file.get(), "created", header.reproducible ? "1970-01-01T00:00:00Z" : utc_now());
  context.ok(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), "", "cannot write");
  if (!file.close()) h5::fail_hdf5(ErrorKind::io, path, "", "cannot close");
  return uuid;
}

void write_sidecar(const std::string& path, const Sidecar& sidecar) {
  File file = File::create_new(path);
  const std::string text = to_text(sidecar);
  file.write(text.data(), text.size());
  file.sync();
  file.close();
}

}  // namespace

void refuse_existing(const std::string& path, bool overwrite) {
  if (!overwrite && path_exists(path)) {
    fail(ErrorKind::data, "{}: exists already; choose another -o or pass --overwrite", path);
  }
}

std::string write_data_file(const std::string& path, const DataFileHeader& header, const std::string& kind,
                            const FillDataFile& fill) {
  refuse_existing(path, header.overwrite);
  const std::string folder = folder_of(path);
  const std::string temporary = folder + "/." + file_name_of(path) + ".tmp-" + random_uuid();
  TemporaryPath data(temporary), sum(temporary + ".sum");
  const std::string uuid = write_hdf5(data.path(), header, kind, fill);
  sync_path(data.path());
  write_sidecar(sum.path(), compute_sidecar(data.path(), uuid));
  rename_path(sum.path(), sidecar_path(path));
  sum.keep();
  rename_path(data.path(), path);  // its presence is the commit
  data.keep();
  sync_path(folder);
  return uuid;
}

void ArrayWriter::HashDeleter::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

ArrayWriter::ArrayWriter(const h5::Context& context, hid_t group, const std::string& name, hid_t type,
                         const Extent& extent)
    : context_(context), name_(name), type_(type), columns_(extent.columns), hash_(XXH3_createState()) {
  XXH3_64bits_reset(hash_.get());
  const int rank = columns_ > 0 ? 2 : 1;
  const int64_t columns = std::max<int64_t>(1, columns_);
  const h5::Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(layout.get(), false);
  H5Pset_fill_time(layout.get(), H5D_FILL_TIME_NEVER);
  if (extent.compress) {
    const int64_t rows = std::max<int64_t>(1, std::min(extent.size, extent.chunk) / columns);
    const std::array<hsize_t, 2> chunk{static_cast<hsize_t>(rows), static_cast<hsize_t>(columns)};
    H5Pset_chunk(layout.get(), rank, chunk.data());
    H5Pset_shuffle(layout.get());
    H5Pset_deflate(layout.get(), 1);
  } else {
    H5Pset_layout(layout.get(), H5D_CONTIGUOUS);
    H5Pset_alloc_time(layout.get(), H5D_ALLOC_TIME_EARLY);
  }
  const std::array<hsize_t, 2> shape{static_cast<hsize_t>(extent.size / columns), static_cast<hsize_t>(columns)};
  const h5::Handle space(H5Screate_simple(rank, shape.data(), nullptr), H5Sclose);
  dataset_ =
      h5::Handle(context_.id(H5Dcreate2(group, name.c_str(), type, space.get(), H5P_DEFAULT, layout.get(), H5P_DEFAULT),
                             name, "cannot create dataset"),
                 H5Dclose);
}

void ArrayWriter::append(const void* data, int64_t count) {
  const int64_t columns = std::max<int64_t>(1, columns_);
  const int rank = columns_ > 0 ? 2 : 1;
  const std::array<hsize_t, 2> start{static_cast<hsize_t>(written_ / columns), 0};
  const std::array<hsize_t, 2> extent{static_cast<hsize_t>(count / columns), static_cast<hsize_t>(columns)};
  const h5::Handle memory(H5Screate_simple(rank, extent.data(), nullptr), H5Sclose);
  const h5::Handle file(H5Dget_space(dataset_.get()), H5Sclose);
  H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr);
  context_.ok(H5Dwrite(dataset_.get(), type_, memory.get(), file.get(), H5P_DEFAULT, data), name_, "cannot write");
  XXH3_64bits_update(hash_.get(), data, static_cast<size_t>(count) * H5Tget_size(type_));
  written_ += count;
}

uint64_t ArrayWriter::finish() {
  const uint64_t hash = XXH3_64bits_digest(hash_.get());
  h5::write_uint(context_, dataset_.get(), "content_xxh3", hash);
  if (!dataset_.close()) h5::fail_hdf5(context_.kind, context_.file, name_, "cannot close");
  return hash;
}

}  // namespace farsight
