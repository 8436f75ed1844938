// SPDX-License-Identifier: Apache-2.0
// Parsing of the metadata of a data file. Only this file and array_library.cc read HDF5; what is found here is
// untrusted until check_descriptor has seen it.
#include <algorithm>
#include <set>

#include "data/corpus.h"
#include "data/corpus_check.h"
#include "data/file.h"
#include "data/hdf5.h"
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

// One array of integers: type, extent, and where its elements are.
class ArrayParser {
 public:
  ArrayParser(const h5::Context& context, hid_t parent, const std::string& name, std::string path, int64_t file_bytes)
      : context_(context), file_bytes_(file_bytes), dataset_(h5::open_dataset(context, parent, name)) {
    array_.path = std::move(path);
  }

  ArrayDescriptor run() {
    parse_type();
    parse_extent();
    parse_storage();
    array_.content_xxh3 = h5::read_uint(context_, dataset_.get(), "content_xxh3");
    return array_;
  }
  hid_t id() const { return dataset_.get(); }

 private:
  void parse_type() {
    const h5::Handle type(H5Dget_type(dataset_.get()), H5Tclose);
    const H5T_class_t kind = H5Tget_class(type.get());
    if (kind != H5T_INTEGER) {
      refuse(fmt::format("of {}; integers are needed", kind == H5T_FLOAT    ? "floating-point numbers"
                                                       : kind == H5T_STRING ? "strings"
                                                                            : "a compound or opaque type"));
    }
    const size_t width = H5Tget_size(type.get());
    if (width != 1 && width != 2 && width != 4 && width != 8) refuse(fmt::format("of {}-byte integers", width));
    array_.width = static_cast<int32_t>(width);
    array_.is_signed = H5Tget_sign(type.get()) == H5T_SGN_2;
    direct_ = width == 1 || H5Tget_order(type.get()) == H5T_ORDER_LE;
    // Padding bits would need the library's conversion.
    direct_ = direct_ && H5Tget_precision(type.get()) == width * 8;
  }

  void parse_extent() {
    const h5::Handle space(H5Dget_space(dataset_.get()), H5Sclose);
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (rank != 1) refuse(fmt::format("of rank {}; rank 1 is needed: store the documents one after another", rank));
    hsize_t extent = 0;
    H5Sget_simple_extent_dims(space.get(), &extent, nullptr);
    if (extent > static_cast<hsize_t>(kMaxExtent)) refuse(fmt::format("of an absurd extent, {}", extent));
    array_.size = static_cast<int64_t>(extent);
  }

  void parse_storage() {
    const h5::Handle creation(H5Dget_create_plist(dataset_.get()), H5Pclose);
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
    hsize_t chunk = 0;
    if (H5Pget_chunk(creation, 1, &chunk) != 1) refuse("of chunks of another rank");
    if (chunk < 1 || chunk > static_cast<hsize_t>(kMaxChunkBytes / array_.width)) {
      refuse(fmt::format("of chunks of {} elements; 64 MiB are accepted", chunk));
    }
    array_.chunk = static_cast<int64_t>(chunk);
    if (filtered || !direct_) return;
    const int64_t chunks = (array_.size + array_.chunk - 1) / array_.chunk;
    if (array_.size * array_.width > file_bytes_) refuse("larger than its file");
    for (int64_t i = 0; i < chunks; ++i) {
      const auto start = static_cast<hsize_t>(i * array_.chunk);
      unsigned mask = 0;
      haddr_t address = HADDR_UNDEF;
      hsize_t size = 0;
      if (H5Dget_chunk_info_by_coord(dataset_.get(), &start, &mask, &address, &size) < 0 || address == HADDR_UNDEF) {
        H5Eclear2(H5E_DEFAULT);
        array_.chunk_offsets.clear();  // a chunk that was never written: the library knows its fill value
        return;
      }
      array_.chunk_offsets.push_back(static_cast<int64_t>(address));
    }
    array_.storage = Storage::chunked;
  }

  void parse_contiguous() {
    const haddr_t offset = H5Dget_offset(dataset_.get());
    if (offset == HADDR_UNDEF) return;  // never written
    array_.storage = Storage::contiguous;
    array_.offset = static_cast<int64_t>(offset);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' is {}", context_.file, array_.path, what);
  }

  h5::Context context_;
  int64_t file_bytes_;
  h5::Handle dataset_;
  ArrayDescriptor array_;
  bool direct_ = false;
};

class CorpusParser {
 public:
  CorpusParser(const std::string& path, int64_t bytes) : context_{.file = path, .kind = ErrorKind::data} {
    corpus_.file = path;
    corpus_.file_bytes = bytes;
  }

  CorpusDescriptor run() {
    const h5::Handle file = h5::open_file(context_);
    const h5::Handle root = h5::open_group(context_, file.get(), "/");
    LinkWalk walk(context_);
    walk.run(root.get(), "", 0);
    parse_header(root.get(), walk.datasets());
    parse_tokenizer(root.get());
    for (const char* name : {"train", "valid", "test"}) {
      if (h5::has_link(context_, root.get(), name)) parse_split(root.get(), name);
    }
    if (corpus_.splits.empty()) fail(ErrorKind::data, "{}: has no split 'train', 'valid' or 'test'", corpus_.file);
    return std::move(corpus_);
  }

 private:
  void parse_header(hid_t root, const std::vector<std::string>& datasets) {
    const auto format = h5::read_string(context_, root, "format");
    if (format != "farsight-data") {
      fail(ErrorKind::data,
           "{}: {}; this is HDF5 of another program, with the datasets: {}; prepare a corpus with 'farsight data text'",
           corpus_.file,
           format ? fmt::format("format is '{}', 'farsight-data' is needed", *format) : "no attribute 'format'",
           first_of(datasets));
    }
    const int64_t version = h5::read_int(context_, root, "format_version").value_or(0);
    if (version != kKnownVersion) {
      fail(ErrorKind::data, "{}: format_version {}, this build reads {}{}", corpus_.file, version, kKnownVersion,
           version > kKnownVersion ? "; use a newer build" : "");
    }
    const std::string kind = h5::read_string(context_, root, "kind").value_or("");
    if (kind != "tokens") fail(ErrorKind::data, "{}: kind is '{}', 'tokens' is needed", corpus_.file, kind);
    corpus_.uuid = h5::read_string(context_, root, "uuid").value_or("");
    corpus_.licence = h5::read_string(context_, root, "licence").value_or("");
    corpus_.normalised = h5::read_string(context_, root, "normalised").value_or("");
    corpus_.source_names = h5::read_strings(context_, root, "source_name");
  }

  static std::string first_of(const std::vector<std::string>& names) {
    std::string text;
    for (size_t i = 0; i < std::min<size_t>(names.size(), 5); ++i)
      text += fmt::format("{}{}", i > 0 ? ", " : "", names[i]);
    return text.empty() ? "(none)" : text;
  }

  void parse_tokenizer(hid_t root) {
    if (!h5::has_link(context_, root, "tokenizer")) fail(ErrorKind::data, "{}: no group '/tokenizer'", corpus_.file);
    const h5::Handle group = h5::open_group(context_, root, "tokenizer");
    TokenizerInfo& info = corpus_.tokenizer;
    info.type = h5::read_string(context_, group.get(), "type").value_or("");
    info.vocab_size = h5::read_int(context_, group.get(), "vocab_size").value_or(0);
    info.bos_id = h5::read_int(context_, group.get(), "bos_id").value_or(-1);
    info.eos_id = h5::read_int(context_, group.get(), "eos_id").value_or(-1);
    info.pad_id = h5::read_int(context_, group.get(), "pad_id").value_or(-1);
    info.unk_id = h5::read_int(context_, group.get(), "unk_id").value_or(-1);
    info.pretokenizer = h5::read_string(context_, group.get(), "pretokenizer").value_or("");
    info.fingerprint = h5::read_string(context_, group.get(), "fingerprint").value_or("");
    if (h5::has_link(context_, group.get(), "json")) info.json = parse_json(group.get());
  }

  std::string parse_json(hid_t group) {
    ArrayParser parser(context_, group, "json", "/tokenizer/json", corpus_.file_bytes);
    const ArrayDescriptor array = parser.run();
    if (array.size > kMaxTokenizerJson || array.width != 1) {
      fail(ErrorKind::data, "{}: '/tokenizer/json' has {} elements of {} bytes; at most 64 MiB of bytes are accepted",
           corpus_.file, array.size, array.width);
    }
    std::string json(static_cast<size_t>(array.size), '\0');
    context_.ok(H5Dread(parser.id(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, json.data()), "/tokenizer/json",
                "cannot read");
    return json;
  }

  void parse_split(hid_t root, const std::string& name) {
    const h5::Handle group = h5::open_group(context_, root, name);
    const std::string prefix = "/" + name + "/";
    if (!h5::has_link(context_, group.get(), "tokens")) {
      fail(ErrorKind::data, "{}: no dataset '{}tokens'", corpus_.file, prefix);
    }
    SplitDescriptor split;
    split.name = name;
    ArrayParser tokens(context_, group.get(), "tokens", prefix + "tokens", corpus_.file_bytes);
    split.tokens = tokens.run();
    split.bytes_of_text = h5::read_int(context_, tokens.id(), "bytes_of_text").value_or(-1);
    split.doc_offsets = optional_array(group.get(), "doc_offsets", prefix);
    split.loss_mask = optional_array(group.get(), "loss_mask", prefix);
    corpus_.splits.push_back(std::move(split));
  }

  std::optional<ArrayDescriptor> optional_array(hid_t group, const std::string& name, const std::string& prefix) {
    if (!h5::has_link(context_, group, name)) return std::nullopt;
    return ArrayParser(context_, group, name, prefix + name, corpus_.file_bytes).run();
  }

  h5::Context context_;
  CorpusDescriptor corpus_;
};

// What everyone who opens the array must find at its beginning.
void read_heads(CorpusDescriptor& corpus) {
  const File file = File::open_read(corpus.file);
  for (SplitDescriptor& split : corpus.splits) {
    ArrayDescriptor& array = split.tokens;
    const int64_t offset = array.storage == Storage::contiguous                                ? array.offset
                           : array.storage == Storage::chunked && !array.chunk_offsets.empty() ? array.chunk_offsets[0]
                                                                                               : 0;
    const int64_t bytes = std::min({static_cast<int64_t>(kHeadBytes),
                                    array.storage == Storage::library ? corpus.file_bytes : array.size * array.width});
    array.head.assign(static_cast<size_t>(bytes), '\0');
    file.read_at(offset, array.head.data(), array.head.size());
  }
}

bool sidecar_names(const CorpusDescriptor& corpus) {
  if (!path_exists(sidecar_path(corpus.file))) return false;
  const Sidecar sidecar = load_sidecar(corpus.file);
  return sidecar.uuid == corpus.uuid && sidecar.bytes == corpus.file_bytes;
}

}  // namespace

CorpusDescriptor describe_corpus(const std::string& path) {
  check_present(path);
  const int64_t bytes = File::open_read(path).size();
  check_signature(path, bytes);
  CorpusDescriptor corpus = [&] {
    const h5::Lock lock;
    return CorpusParser(path, bytes).run();
  }();
  check_descriptor(corpus);
  read_heads(corpus);
  corpus.sidecar = sidecar_names(corpus);
  return corpus;
}

}  // namespace farsight
