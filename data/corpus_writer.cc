// SPDX-License-Identifier: Apache-2.0
#include "data/corpus_writer.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <ctime>
#include <memory>

#include <xxhash.h>

#include "data/file.h"
#include "data/hdf5.h"
#include "data/sidecar.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kFormatVersion = 1;
constexpr int64_t kArchiveChunk = 1 << 20;
constexpr size_t kOffsetBatch = 1 << 16;
constexpr size_t kMaxListedSources = 1000;

struct HashDeleter {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

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

// A one-dimensional dataset that is filled from its beginning, hashed on the way.
class ArrayWriter {
 public:
  ArrayWriter(const h5::Context& context, hid_t group, const std::string& name, hid_t type, int64_t size, bool compress)
      : context_(context), name_(name), type_(type), hash_(XXH3_createState()) {
    XXH3_64bits_reset(hash_.get());
    const h5::Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_obj_track_times(layout.get(), false);
    H5Pset_fill_time(layout.get(), H5D_FILL_TIME_NEVER);
    if (compress) {
      const auto chunk = static_cast<hsize_t>(std::min(size, kArchiveChunk));
      H5Pset_chunk(layout.get(), 1, &chunk);
      H5Pset_shuffle(layout.get());
      H5Pset_deflate(layout.get(), 1);
    } else {
      H5Pset_layout(layout.get(), H5D_CONTIGUOUS);
      H5Pset_alloc_time(layout.get(), H5D_ALLOC_TIME_EARLY);
    }
    const auto extent = static_cast<hsize_t>(size);
    const h5::Handle space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
    dataset_ = h5::Handle(
        context_.id(H5Dcreate2(group, name.c_str(), type, space.get(), H5P_DEFAULT, layout.get(), H5P_DEFAULT), name,
                    "cannot create dataset"),
        H5Dclose);
  }

  void append(const void* data, int64_t count) {
    const auto start = static_cast<hsize_t>(written_), extent = static_cast<hsize_t>(count);
    const h5::Handle memory(H5Screate_simple(1, &extent, nullptr), H5Sclose);
    const h5::Handle file(H5Dget_space(dataset_.get()), H5Sclose);
    H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, &start, nullptr, &extent, nullptr);
    context_.ok(H5Dwrite(dataset_.get(), type_, memory.get(), file.get(), H5P_DEFAULT, data), name_, "cannot write");
    XXH3_64bits_update(hash_.get(), data, static_cast<size_t>(count) * H5Tget_size(type_));
    written_ += count;
  }

  hid_t id() const { return dataset_.get(); }

  uint64_t finish() {
    const uint64_t hash = XXH3_64bits_digest(hash_.get());
    h5::write_uint(context_, dataset_.get(), "content_xxh3", hash);
    if (!dataset_.close()) h5::fail_hdf5(context_.kind, context_.file, name_, "cannot close");
    return hash;
  }

 private:
  h5::Context context_;
  std::string name_;
  hid_t type_;
  std::unique_ptr<XXH3_state_t, HashDeleter> hash_;
  h5::Handle dataset_;
  int64_t written_ = 0;
};

uint64_t write_tokens(const h5::Context& context, hid_t group, const CorpusHeader& header, TokenSpool& spool,
                      int split) {
  const SpoolTotals& totals = spool.totals()[static_cast<size_t>(split)];
  ArrayWriter tokens(context, group, "tokens", spool.width() == 2 ? H5T_STD_U16LE : H5T_STD_U32LE, totals.tokens,
                     header.compress);
  h5::write_int(context, tokens.id(), "num_documents", totals.documents);
  h5::write_int(context, tokens.id(), "bytes_of_text", totals.bytes);
  spool.each_piece(split, [&](const void* data, int64_t count) { tokens.append(data, count); });
  return tokens.finish();
}

uint64_t write_offsets(const h5::Context& context, hid_t group, const CorpusHeader& header, TokenSpool& spool,
                       int split) {
  const SpoolTotals& totals = spool.totals()[static_cast<size_t>(split)];
  ArrayWriter offsets(context, group, "doc_offsets", H5T_STD_I64LE, totals.documents + 1, header.compress);
  std::vector<int64_t> batch = {0};
  int64_t end = 0;
  spool.each_document(split, [&](const SpoolDocument& document) {
    batch.push_back(end += document.tokens);
    if (batch.size() < kOffsetBatch) return;
    offsets.append(batch.data(), static_cast<int64_t>(batch.size()));
    batch.clear();
  });
  if (!batch.empty()) offsets.append(batch.data(), static_cast<int64_t>(batch.size()));
  return offsets.finish();
}

uint64_t write_sources(const h5::Context& context, hid_t group, const CorpusHeader& header, TokenSpool& spool,
                       int split) {
  ArrayWriter sources(context, group, "doc_source", H5T_STD_I32LE, spool.totals()[static_cast<size_t>(split)].documents,
                      header.compress);
  std::vector<int32_t> batch;
  const auto flush = [&] {
    if (!batch.empty()) sources.append(batch.data(), static_cast<int64_t>(batch.size()));
    batch.clear();
  };
  spool.each_document(split, [&](const SpoolDocument& document) {
    batch.push_back(document.source);
    if (batch.size() >= kOffsetBatch) flush();
  });
  flush();
  return sources.finish();
}

std::string write_tokenizer(const h5::Context& context, hid_t file, const TokenizerInfo& info) {
  const h5::Handle group = h5::create_group(context, file, "tokenizer");
  h5::write_string(context, group.get(), "type", info.type);
  h5::write_int(context, group.get(), "vocab_size", info.vocab_size);
  h5::write_int(context, group.get(), "bos_id", info.bos_id);
  h5::write_int(context, group.get(), "eos_id", info.eos_id);
  h5::write_int(context, group.get(), "pad_id", info.pad_id);
  h5::write_int(context, group.get(), "unk_id", info.unk_id);
  h5::write_string(context, group.get(), "pretokenizer", info.pretokenizer);
  h5::write_string(context, group.get(), "fingerprint", info.fingerprint);
  if (info.json.empty()) return "";
  ArrayWriter json(context, group.get(), "json", H5T_STD_U8LE, static_cast<int64_t>(info.json.size()),
                   /*compress=*/false);
  json.append(info.json.data(), static_cast<int64_t>(info.json.size()));
  return fmt::format("{:016x}", json.finish());
}

// Returns the hashes of the content as text.
std::string write_splits(const h5::Context& context, hid_t file, const CorpusHeader& header, TokenSpool& spool) {
  std::string content;
  for (size_t i = 0; i < header.splits.size(); ++i) {
    const int split = static_cast<int>(i);
    const h5::Handle group = h5::create_group(context, file, header.splits[i]);
    content += fmt::format("{} {:016x}", header.splits[i], write_tokens(context, group.get(), header, spool, split));
    content += fmt::format(" {:016x}", write_offsets(context, group.get(), header, spool, split));
    if (header.source_names.size() > 1) {
      content += fmt::format(" {:016x}", write_sources(context, group.get(), header, spool, split));
    }
    content += '\n';
  }
  return content;
}

void write_provenance(const h5::Context& context, hid_t file, const CorpusHeader& header) {
  h5::write_string(context, file, "format", "farsight-data");
  h5::write_int(context, file, "format_version", kFormatVersion);
  h5::write_string(context, file, "kind", "tokens");
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

std::string write_hdf5(const std::string& path, const CorpusHeader& header, TokenSpool& spool) {
  const h5::Lock lock;
  const h5::Context context{.file = path, .kind = ErrorKind::io};
  h5::Handle file = h5::create_file(context);
  write_provenance(context, file.get(), header);
  std::string content = header.tokenizer.fingerprint + write_tokenizer(context, file.get(), header.tokenizer) + "\n";
  content += write_splits(context, file.get(), header, spool);
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

std::string write_corpus(const std::string& path, const CorpusHeader& header, TokenSpool& spool) {
  refuse_existing(path, header.overwrite);
  const std::string folder = folder_of(path);
  const std::string temporary = folder + "/." + file_name_of(path) + ".tmp-" + random_uuid();
  TemporaryPath data(temporary), sum(temporary + ".sum");
  const std::string uuid = write_hdf5(data.path(), header, spool);
  sync_path(data.path());
  write_sidecar(sum.path(), compute_sidecar(data.path(), uuid));
  rename_path(sum.path(), sidecar_path(path));
  sum.keep();
  rename_path(data.path(), path);  // its presence is the commit
  data.keep();
  sync_path(folder);
  return uuid;
}

}  // namespace farsight
