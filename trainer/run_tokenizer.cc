// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_tokenizer.h"

#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace farsight {
namespace {

constexpr int64_t kMaxBytes = int64_t{128} << 20;

std::string path_in(const std::string& run_directory) { return run_directory + "/tokenizer.json"; }

}  // namespace

void save_tokenizer(FileSystem& files, const std::string& run_directory, const TokenizerInfo& info) {
  nlohmann::ordered_json j;
  j["type"] = info.type;
  j["vocab_size"] = info.vocab_size;
  j["bos_id"] = info.bos_id;
  j["eos_id"] = info.eos_id;
  j["pad_id"] = info.pad_id;
  j["unk_id"] = info.unk_id;
  j["pretokenizer"] = info.pretokenizer;
  j["fingerprint"] = info.fingerprint;
  j["json"] = info.json;
  replace_file(files, path_in(run_directory), j.dump() + "\n");
}

TokenizerInfo load_tokenizer(FileSystem& files, const std::string& run_directory) {
  const std::string path = path_in(run_directory);
  if (!exists(files, path))
    fail(ErrorKind::data, "'{}' is missing: not the directory of a finished or running training run", path);
  try {
    const auto j = nlohmann::json::parse(read_text(files, path, kMaxBytes));
    TokenizerInfo info;
    info.type = j.at("type").get<std::string>();
    info.vocab_size = j.at("vocab_size").get<int64_t>();
    info.bos_id = j.at("bos_id").get<int64_t>();
    info.eos_id = j.at("eos_id").get<int64_t>();
    info.pad_id = j.at("pad_id").get<int64_t>();
    info.unk_id = j.at("unk_id").get<int64_t>();
    info.pretokenizer = j.at("pretokenizer").get<std::string>();
    info.fingerprint = j.at("fingerprint").get<std::string>();
    info.json = j.at("json").get<std::string>();
    return info;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::data, "'{}' is damaged: {}; copy it from another checkpointed copy of the run", path, error.what());
  }
}

}  // namespace farsight
