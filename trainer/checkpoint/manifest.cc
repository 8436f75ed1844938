// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/manifest.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/crc32c.h"
#include "trainer/checkpoint/shard_format.h"
#include "trainer/checkpoint/strict_json.h"

namespace farsight {
namespace {

using nlohmann::json;
constexpr std::string_view kChecksumKey = "crc32c=";
constexpr size_t kChecksumLine = 16;  // crc32c=XXXXXXXX and a newline
constexpr int kMaxDepth = 6;
constexpr int64_t kMaxValues = 16'000'000;

// JSON has no word for what is not finite.
json number_to_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : (value > 0 ? "inf" : "-inf");
}

double number_from_json(const json& value, const std::string& where) {
  if (value.is_number()) return value.get<double>();
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  fail(ErrorKind::data, "{}: {} is not a number", where, value.dump());
}

json numbers_to_json(const std::map<std::string, double>& numbers) {
  json object = json::object();
  for (const auto& [name, value] : numbers) object[name] = number_to_json(value);
  return object;
}

std::map<std::string, double> numbers_from_json(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_object()) fail(ErrorKind::data, "{}: '{}' is not an object", where, key);
  std::map<std::string, double> numbers;
  for (const auto& [name, number] : value.items()) numbers[name] = number_from_json(number, where);
  return numbers;
}

const json& list_member(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_array()) fail(ErrorKind::data, "{}: '{}' is not a list", where, key);
  return value;
}

json datasets_to_json(const std::vector<DatasetIdentity>& datasets) {
  json list = json::array();
  for (const DatasetIdentity& d : datasets) {
    list.push_back({{"path", d.path},
                    {"bytes", d.bytes},
                    {"modified_ns", d.modified_ns},
                    {"rows", d.rows},
                    {"checksum", d.checksum}});
  }
  return list;
}

std::vector<DatasetIdentity> datasets_from_json(const json& list, const std::string& where) {
  std::vector<DatasetIdentity> datasets;
  for (const json& d : list) {
    json_exact_keys(d, {"path", "bytes", "modified_ns", "rows", "checksum"}, where);
    datasets.push_back({json_string(d, "path", where), json_integer(d, "bytes", where),
                        json_integer(d, "modified_ns", where), json_integer(d, "rows", where),
                        json_string(d, "checksum", where)});
  }
  return datasets;
}

json data_to_json(const CheckpointState& state) {
  return {{"epoch", state.epoch},
          {"samples_consumed", state.samples_consumed},
          {"shuffle_seed", state.shuffle_seed},
          {"datasets", datasets_to_json(state.datasets)},
          {"tokenizer_fingerprint", state.tokenizer_fingerprint}};
}

void data_from_json(const json& data, CheckpointState& state, const std::string& where) {
  json_exact_keys(data, {"epoch", "samples_consumed", "shuffle_seed", "datasets", "tokenizer_fingerprint"}, where);
  state.epoch = json_integer(data, "epoch", where);
  state.samples_consumed = json_integer(data, "samples_consumed", where);
  state.shuffle_seed = json_unsigned(data, "shuffle_seed", where);
  state.datasets = datasets_from_json(list_member(data, "datasets", where), where);
  state.tokenizer_fingerprint = json_string(data, "tokenizer_fingerprint", where);
}

json windows_to_json(const CheckpointState& state) {
  json list = json::array();
  for (const auto& [begin, end] : state.skipped_windows) list.push_back({begin, end});
  return list;
}

void windows_from_json(const json& list, CheckpointState& state, const std::string& where) {
  for (const json& window : list) {
    const Shape ends = json_shape({{"window", window}}, "window", where);
    if (ends.size() != 2 || ends[0] > ends[1]) fail(ErrorKind::data, "{}: illegal skipped window", where);
    state.skipped_windows.emplace_back(ends[0], ends[1]);
  }
}

json losses_to_json(const CheckpointState& state) {
  json list = json::array();
  for (const double loss : state.recent_losses) list.push_back(number_to_json(loss));
  return list;
}

json files_to_json(const Manifest& manifest) {
  json list = json::array();
  for (const ShardFile& f : manifest.files) {
    list.push_back({{"name", f.name}, {"bytes", f.bytes}, {"crc_header", f.crc_header}, {"crc_table", f.crc_table}});
  }
  return list;
}

uint32_t checksum_member(const json& object, const char* key, const std::string& where) {
  const int64_t value = json_integer(object, key, where);
  if (value > UINT32_MAX) fail(ErrorKind::data, "{}: '{}' exceeds 32 bits", where, key);
  return static_cast<uint32_t>(value);
}

// A shard name is looked up in the checkpoint's own directory and nowhere else.
void files_from_json(const json& list, Manifest& manifest, const std::string& where) {
  for (const json& f : list) {
    json_exact_keys(f, {"name", "bytes", "crc_header", "crc_table"}, where);
    const std::string name = json_string(f, "name", where);
    const std::string expected = fmt::format("shard-{:05}-of-{:05}.fss", manifest.files.size(), list.size());
    if (name != expected) fail(ErrorKind::data, "{}: file '{}', expected '{}'", where, name, expected);
    manifest.files.push_back({name, json_integer(f, "bytes", where), checksum_member(f, "crc_header", where),
                              checksum_member(f, "crc_table", where)});
  }
  if (manifest.files.empty()) fail(ErrorKind::data, "{}: no shard files", where);
}

json pieces_to_json(const IndexEntry& entry) {
  json list = json::array();
  for (const IndexPiece& p : entry.pieces) {
    list.push_back({{"file", p.file}, {"begin", p.begin}, {"offset", p.offset}, {"shape", p.shape}});
  }
  return list;
}

std::vector<IndexPiece> pieces_from_json(const json& list, const std::string& where) {
  std::vector<IndexPiece> pieces;
  for (const json& p : list) {
    json_exact_keys(p, {"file", "begin", "offset", "shape"}, where);
    pieces.push_back({json_integer(p, "file", where), json_integer(p, "begin", where), json_shape(p, "offset", where),
                      json_shape(p, "shape", where)});
  }
  return pieces;
}

void tensors_from_json(const json& object, Manifest& manifest, const std::string& where) {
  const json& dtypes = json_member(object, "dtypes", where);
  const json& shapes = json_member(object, "shapes", where);
  if (dtypes.size() != manifest.index.size() || shapes.size() != manifest.index.size()) {
    fail(ErrorKind::data, "{}: dtypes, shapes and index name different tensors", where);
  }
  for (auto& [name, entry] : manifest.index) {
    entry.dtype = json_string(dtypes, name.c_str(), where);
    entry.global = json_shape(shapes, name.c_str(), where);
    for (const IndexPiece& p : entry.pieces) {
      check_box(name, entry.dtype, entry.global, p.offset, p.shape, where);
      if (p.file >= static_cast<int64_t>(manifest.files.size())) {
        fail(ErrorKind::data, "{}: '{}' lies in file {} of {}", where, name, p.file, manifest.files.size());
      }
    }
  }
}

void state_from_json(const json& object, CheckpointState& state, const std::string& where) {
  state.step = json_integer(object, "step", where);
  state.tokens = json_integer(object, "tokens", where);
  state.seed = json_unsigned(object, "seed", where);
  state.config_text = json_string(object, "config", where);
  state.config_hash = json_string(object, "config_hash", where);
  state.code_version = json_string(object, "code_version", where);
  state.learning_rate = numbers_from_json(object, "learning_rate", where);
  state.loss_scale = numbers_from_json(object, "loss_scale", where);
  state.loss_statistics = numbers_from_json(object, "loss_statistics", where);
  state.wall_times = numbers_from_json(object, "wall_times", where);
  for (const json& loss : list_member(object, "recent_losses", where)) {
    state.recent_losses.push_back(number_from_json(loss, where));
  }
  data_from_json(json_member(object, "data", where), state, where);
  windows_from_json(list_member(object, "skipped_windows", where), state, where);
  state.world = json_integer(object, "world", where);
  const json& mesh = json_member(object, "mesh", where);
  for (const auto& [axis, extent] : mesh.items()) state.mesh[axis] = json_integer(mesh, axis.c_str(), where);
}

std::string checked_body(const std::string& text, const std::string& where) {
  const size_t body = text.size() < kChecksumLine ? 0 : text.size() - kChecksumLine;
  const std::string line = text.substr(body);
  const std::string expected = fmt::format("{}{:08x}\n", kChecksumKey, crc32c(std::string_view(text).substr(0, body)));
  if (body == 0 || !line.starts_with(kChecksumKey)) fail(ErrorKind::data, "{}: no checksum line: it is cut", where);
  if (line != expected) {
    fail(ErrorKind::data, "{}: CRC32C {}, expected {}", where, expected.substr(kChecksumKey.size(), 8),
         line.substr(kChecksumKey.size(), 8));
  }
  return text.substr(0, body);
}

}  // namespace

std::string encode_manifest(const Manifest& manifest) {
  const CheckpointState& state = manifest.state;
  json index = json::object(), dtypes = json::object(), shapes = json::object();
  for (const auto& [name, entry] : manifest.index) {
    index[name] = pieces_to_json(entry);
    dtypes[name] = entry.dtype;
    shapes[name] = entry.global;
  }
  const json object = {{"format", manifest.format},
                       {"uuid", manifest.uuid},
                       {"step", state.step},
                       {"tokens", state.tokens},
                       {"seed", state.seed},
                       {"world", state.world},
                       {"mesh", state.mesh},
                       {"config", state.config_text},
                       {"config_hash", state.config_hash},
                       {"code_version", state.code_version},
                       {"data", data_to_json(state)},
                       {"learning_rate", numbers_to_json(state.learning_rate)},
                       {"loss_scale", numbers_to_json(state.loss_scale)},
                       {"loss_statistics", numbers_to_json(state.loss_statistics)},
                       {"recent_losses", losses_to_json(state)},
                       {"skipped_windows", windows_to_json(state)},
                       {"wall_times", numbers_to_json(state.wall_times)},
                       {"files", files_to_json(manifest)},
                       {"dtypes", dtypes},
                       {"shapes", shapes},
                       {"index", index}};
  // Paths and configuration text may hold any bytes; what is not UTF-8 is replaced.
  std::string text = object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  return text + fmt::format("{}{:08x}\n", kChecksumKey, crc32c(text));
}

Manifest decode_manifest(const std::string& text, const std::string& path) {
  const std::string where = path + ": MANIFEST";
  const std::string body = checked_body(text, where);
  Manifest manifest;
  StrictJsonOptions options;
  options.max_depth = kMaxDepth;
  options.max_values = kMaxValues;
  options.take = [&](const std::vector<std::string>& keys, int depth, const json& value) {
    if (depth != 2 || !value.is_array() || keys[1] != "index") return false;
    manifest.index[keys[2]].pieces = pieces_from_json(value, where);
    return true;
  };
  const json object = parse_strict_json(body, where, options);
  manifest.format = json_integer(object, "format", where);
  if (manifest.format != Manifest::kFormat) {
    fail(ErrorKind::data, "{}: manifest format {}; this program reads format {}", where, manifest.format,
         Manifest::kFormat);
  }
  json_exact_keys(object, {"format",        "uuid",
                           "step",          "tokens",
                           "seed",          "world",
                           "mesh",          "config",
                           "config_hash",   "code_version",
                           "data",          "learning_rate",
                           "loss_scale",    "loss_statistics",
                           "recent_losses", "skipped_windows",
                           "wall_times",    "files",
                           "dtypes",        "shapes",
                           "index"},
                  where);
  manifest.uuid = json_string(object, "uuid", where);
  state_from_json(object, manifest.state, where);
  files_from_json(list_member(object, "files", where), manifest, where);
  if (json_member(object, "index", where).size() != manifest.index.size()) {
    fail(ErrorKind::data, "{}: 'index' holds something else than lists of slices", where);
  }
  tensors_from_json(object, manifest, where);
  return manifest;
}

}  // namespace farsight
