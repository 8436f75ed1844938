// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/checkpoint.h"

#include <iostream>
#include <optional>
#include <utility>

#include <boost/program_options.hpp>
#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"

namespace farsight {
namespace {

namespace po = boost::program_options;

constexpr const char* kUsage =
    "farsight checkpoint list    RUN [--level=header|chunks|full]\n"
    "farsight checkpoint inspect RUN|CHECKPOINT\n"
    "farsight checkpoint verify  RUN|CHECKPOINT [--level=header|chunks|full]\n"
    "\n"
    "RUN is a run directory, its newest checkpoint is meant; CHECKPOINT is a directory step-N.\n"
    "Levels: header = manifest, sizes, footers and headers; chunks = every CRC32C too; full = padding too.\n"
    "\n"
    "Example: farsight checkpoint verify runs/shakespeare --level=full\n\n";

// Where a run keeps its checkpoints; also accepts that directory itself.
std::string checkpoint_root(FileSystem& files, const std::string& path) {
  const std::string inside = path + "/checkpoints";
  return exists(files, inside) ? inside : path;
}

// The directory of one checkpoint, for a path that names it, or a run, of which the newest is meant.
std::string one_checkpoint(FileSystem& files, const std::string& path) {
  if (parse_step(file_name(path)) || exists(files, path + "/" + kManifestName)) return path;
  const std::vector<Candidate> all = list_checkpoints(files, checkpoint_root(files, path));
  if (all.empty()) fail(ErrorKind::data, "{}: holds no checkpoint; give a run directory or a directory step-N", path);
  return all.front().path;
}

VerifyLevel parse_level(const std::string& text) {
  if (text == "header") return VerifyLevel::header;
  if (text == "chunks") return VerifyLevel::chunks;
  if (text == "full") return VerifyLevel::full;
  fail(ErrorKind::usage, "--level={}; use header, chunks or full", text);
}

int64_t total_bytes(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const ShardFile& file : manifest.files) bytes += file.bytes;
  return bytes;
}

// Empty for a good checkpoint.
std::optional<Error> damage_of(FileSystem& files, const std::string& checkpoint, VerifyLevel level,
                               Manifest& manifest) {
  try {
    manifest = verify_checkpoint(files, checkpoint, level);
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

int list(FileSystem& files, const std::string& path, VerifyLevel level, std::ostream& out) {
  const std::vector<Candidate> all = list_checkpoints(files, checkpoint_root(files, path));
  if (all.empty()) fail(ErrorKind::data, "{}: holds no checkpoint", path);
  for (const Candidate& candidate : all) {
    Manifest manifest;
    if (const auto damage = damage_of(files, candidate.path, level, manifest)) {
      out << fmt::format("{}  damaged: {}\n", file_name(candidate.path), damage->what());
      continue;
    }
    const bool healthy = exists(files, candidate.path + "/" + kHealthyName);
    out << fmt::format("{}  {} tokens  {} shards  {} bytes{}\n", file_name(candidate.path), manifest.state.tokens,
                       manifest.files.size(), total_bytes(manifest), healthy ? "  healthy" : "");
  }
  return 0;
}

void print_state(const CheckpointState& state, std::ostream& out) {
  out << fmt::format("step {}\ntokens {}\nepoch {}\nsamples_consumed {}\nseed {}\nworld {}", state.step, state.tokens,
                     state.epoch, state.samples_consumed, state.seed, state.world);
  for (const auto& [axis, extent] : state.mesh) out << fmt::format("  {}={}", axis, extent);
  out << fmt::format("\ncode_version {}\nconfig_hash {}\n", state.code_version, state.config_hash);
  for (const DatasetIdentity& d : state.datasets) {
    out << fmt::format("dataset {} ({} bytes, {} rows, checksum {})\n", d.path, d.bytes, d.rows, d.checksum);
  }
  if (!state.tokenizer_fingerprint.empty()) out << fmt::format("tokenizer {}\n", state.tokenizer_fingerprint);
}

int inspect(FileSystem& files, const std::string& path, VerifyLevel level, std::ostream& out) {
  const std::string checkpoint = one_checkpoint(files, path);
  const Manifest manifest = verify_checkpoint(files, checkpoint, level);
  out << fmt::format("checkpoint {}\nuuid {}\n", checkpoint, manifest.uuid);
  print_state(manifest.state, out);
  for (const ShardFile& file : manifest.files) out << fmt::format("file {} {} bytes\n", file.name, file.bytes);
  for (const auto& [name, entry] : manifest.index) {
    out << fmt::format("tensor {} {} {} in {} slice{}\n", name, entry.dtype, to_string(entry.global),
                       entry.pieces.size(), entry.pieces.size() == 1 ? "" : "s");
  }
  return 0;
}

int verify(FileSystem& files, const std::string& path, VerifyLevel level, std::ostream& out, std::ostream& err) {
  const std::string checkpoint = one_checkpoint(files, path);
  Manifest manifest;
  if (const auto damage = damage_of(files, checkpoint, level, manifest)) {
    err << fmt::format("{}: damaged: {}\n", checkpoint, damage->what());
    return exit_code(damage->kind());
  }
  out << fmt::format("{}: good ({} tensors, {} shards, {} bytes)\n", checkpoint, manifest.index.size(),
                     manifest.files.size(), total_bytes(manifest));
  return 0;
}

po::options_description visible_options() {
  po::options_description options("Options");
  options.add_options()("level", po::value<std::string>(),
                        "header, chunks or full (list, inspect: header; verify: chunks)")("help", "this text");
  return options;
}

po::variables_map parse(const std::vector<std::string>& args) {
  po::options_description all = visible_options();
  all.add_options()("action", po::value<std::string>())("path", po::value<std::string>());
  po::positional_options_description positional;
  positional.add("action", 1).add("path", 1);
  po::variables_map values;
  try {
    po::store(po::command_line_parser(args).options(all).positional(positional).run(), values);
  } catch (const po::error& error) {
    fail(ErrorKind::usage, "farsight checkpoint: {}; see farsight checkpoint --help", error.what());
  }
  return values;
}

}  // namespace

int run_checkpoint_command(std::vector<std::string> args, std::ostream& out, std::ostream& err) {
  const po::variables_map values = parse(args);
  if (values.count("help") != 0) {
    out << kUsage << visible_options();
    return 0;
  }
  if (values.count("action") == 0 || values.count("path") == 0) {
    fail(ErrorKind::usage, "farsight checkpoint needs an action and a path; see farsight checkpoint --help");
  }
  const auto& action = values["action"].as<std::string>();
  const auto& path = values["path"].as<std::string>();
  const std::string level =
      values.count("level") != 0 ? values["level"].as<std::string>() : (action == "verify" ? "chunks" : "header");
  const auto files = make_posix_file_system();
  if (action == "list") return list(*files, path, parse_level(level), out);
  if (action == "inspect") return inspect(*files, path, parse_level(level), out);
  if (action == "verify") return verify(*files, path, parse_level(level), out, err);
  fail(ErrorKind::usage, "farsight checkpoint: unknown action '{}'; use list, inspect or verify", action);
}

}  // namespace farsight
