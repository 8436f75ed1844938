// SPDX-License-Identifier: Apache-2.0
#include "data/file_metadata.h"

#include <algorithm>
#include <memory>
#include <set>

#include "data/array_check.h"
#include "data/file.h"
#include "data/sidecar.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kKnownVersion = 1;
constexpr std::string_view kSignature("\x89HDF\r\n\x1a\n", 8);
constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";

void check_present(const std::string& path) {
  if (path_exists(path)) return;
  fail(ErrorKind::data,
       "{}: cannot open: No such file or directory; prepare it with 'farsight data text FILE... -o {}', or check the "
       "path",
       path, path);
}

void check_signature(const std::string& path, int64_t bytes) {
  const std::string head = read_head(path, 4096);
  if (head.empty()) fail(ErrorKind::data, "{}: the file is empty, not HDF5", path);
  if (head.starts_with(kLfsPointer)) {
    fail(ErrorKind::data, "{}: this is a Git LFS pointer, fetch the real file (git lfs pull)", path);
  }
  for (size_t at = 0; at + kSignature.size() <= head.size(); at = at == 0 ? 512 : at * 2) {
    if (std::string_view(head).substr(at, kSignature.size()) == kSignature) return;
  }
  fail(ErrorKind::data,
       "{}: not an HDF5 file ({} bytes, no HDF5 signature); prepare text with: farsight data text {} -o "
       "F.h5",
       path, with_commas(bytes), path);
}

// Every link must be a hard one: others can lead out of the file or in circles.
class LinkWalk {
 public:
  explicit LinkWalk(const h5::Context& context) : context_(context) {}

  void run(hid_t group, const std::string& path, int depth) {
    if (depth > kMaxDepth) refuse(path, fmt::format("groups more than {} deep", kMaxDepth));
    hsize_t index = 0;
    Frame frame{this, path, depth};
    const herr_t result = H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &index, &LinkWalk::visit, &frame);
    if (error_) throw *error_;
    context_.ok(result, path, "cannot list");
  }
  const std::vector<std::string>& datasets() const { return datasets_; }

 private:
  struct Frame {
    LinkWalk* walk;
    std::string path;
    int depth;
  };

  // Called from C: no exception may leave it.
  static herr_t visit(hid_t group, const char* name, const H5L_info_t* info, void* data) {
    auto& frame = *static_cast<Frame*>(data);
    try {
      frame.walk->link(group, frame.path + "/" + name, name, *info, frame.depth);
      return 0;
    } catch (const Error& error) {
      frame.walk->error_ = std::make_unique<Error>(error);
    } catch (const std::exception& error) {
      frame.walk->error_ = std::make_unique<Error>(ErrorKind::data, error.what());
    }
    return -1;
  }

  void link(hid_t group, const std::string& path, const char* name, const H5L_info_t& info, int depth) {
    if (++count_ > kMaxObjects) refuse(path, fmt::format("more than {} objects", kMaxObjects));
    if (info.type != H5L_TYPE_HARD)
      refuse(path, "an external, soft or user-defined link; only hard links are accepted");
    H5O_info_t object;
    context_.ok(H5Oget_info_by_name2(group, name, &object, H5O_INFO_BASIC, H5P_DEFAULT), path, "cannot look at");
    if (object.type == H5O_TYPE_DATASET) datasets_.push_back(path);
    if (object.type != H5O_TYPE_GROUP) return;
    if (!visited_.insert(object.addr).second) refuse(path, "a group that is linked twice");
    const h5::Handle child = h5::open_group(context_, group, name);
    run(child.get(), path, depth + 1);
  }

  [[noreturn]] void refuse(const std::string& path, const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' is {}", context_.file, path, what);
  }

  h5::Context context_;
  std::set<haddr_t> visited_;
  std::vector<std::string> datasets_;
  std::unique_ptr<Error> error_;
  int64_t count_ = 0;
};

std::string first_of(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 5); ++i)
    text += fmt::format("{}{}", i > 0 ? ", " : "", names[i]);
  return text.empty() ? "(none)" : text;
}

void read_header(OpenDataFile& opened, const std::vector<std::string>& datasets) {
  const h5::Context& context = opened.context;
  const hid_t root = opened.root.get();
  DataFileInfo& info = opened.info;
  const auto format = h5::read_string(context, root, "format");
  if (format != "farsight-data") {
    fail(ErrorKind::data,
         "{}: {}; this is HDF5 of another program, with the datasets: {}; prepare a corpus with 'farsight data text', "
         "time series with 'farsight data csv'",
         info.file,
         format ? fmt::format("format is '{}', 'farsight-data' is needed", *format) : "no attribute 'format'",
         first_of(datasets));
  }
  const int64_t version = h5::read_int(context, root, "format_version").value_or(0);
  if (version != kKnownVersion) {
    fail(ErrorKind::data, "{}: format_version {}, this build reads {}{}", info.file, version, kKnownVersion,
         version > kKnownVersion ? "; use a newer build" : "");
  }
  opened.kind = h5::read_string(context, root, "kind").value_or("");
  info.uuid = h5::read_string(context, root, "uuid").value_or("");
  info.licence = h5::read_string(context, root, "licence").value_or("");
  info.normalised = h5::read_string(context, root, "normalised").value_or("");
  info.source_names = h5::read_strings(context, root, "source_name");
}

}  // namespace

int64_t check_is_hdf5(const std::string& path) {
  check_present(path);
  const int64_t bytes = File::open_read(path).size();
  check_signature(path, bytes);
  return bytes;
}

OpenDataFile open_data_file(const std::string& path, int64_t bytes) {
  OpenDataFile opened;
  opened.context = {.file = path, .kind = ErrorKind::data};
  opened.info.file = path;
  opened.info.file_bytes = bytes;
  opened.file = h5::open_file(opened.context);
  opened.root = h5::open_group(opened.context, opened.file.get(), "/");
  LinkWalk walk(opened.context);
  walk.run(opened.root.get(), "", 0);
  read_header(opened, walk.datasets());
  return opened;
}

bool sidecar_names(const DataFileInfo& info) {
  if (!path_exists(sidecar_path(info.file))) return false;
  const Sidecar sidecar = load_sidecar(info.file);
  return sidecar.uuid == info.uuid && sidecar.bytes == info.file_bytes;
}

}  // namespace farsight
