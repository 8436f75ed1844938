// SPDX-License-Identifier: Apache-2.0
// The cost model with one set of H100 constants beside published training speeds. MFU counts all T keys of a row, as
// the sources do. The Megatron shapes are those whose parameter counts match the published ones (vocabulary 131072,
// head not tied); their batch is not published and taken as 1152, that of the GPT-3 runs of the same page.
// Sources: Megatron-LM docs/user-guide, images/model_table.png; torchtitan docs (Llama 3.1 8B, 8 H100; long context).
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "trainer/calibration.h"
#include "trainer/step_time.h"

namespace farsight {
namespace {

struct Published {
  const char* name;
  int64_t ranks;
  double mfu;           // fraction, or
  double tokens_per_s;  // of a rank
  std::vector<std::string> overrides;
};

std::vector<std::string> gpt(int64_t layers, int64_t width, int64_t heads, int64_t tensor, int64_t samples) {
  return {fmt::format("model.layers={}", layers),
          fmt::format("model.width={}", width),
          fmt::format("model.heads={}", heads),
          "model.mlp=gelu",
          "model.norm=layer",
          "model.vocab=131072",
          "model.tie_embeddings=false",
          "data.sequence=4096",
          fmt::format("parallel.tensor={}", tensor),
          "parallel.zero=1",
          "train.micro_batch=1",
          fmt::format("train.batch={} samples", samples)};
}

std::vector<std::string> llama(int64_t sequence, int64_t samples, const std::vector<std::string>& more) {
  std::vector<std::string> all{"model.layers=32",
                               "model.width=4096",
                               "model.heads=32",
                               "model.kv_heads=8",
                               "model.mlp_width=14336",
                               "model.vocab=128256",
                               "model.tie_embeddings=false",
                               fmt::format("data.sequence={}", sequence),
                               "parallel.zero=3",
                               fmt::format("train.batch={} samples", samples)};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<Published> rows() {
  const std::vector<std::string> full{"train.recompute=layer", "train.micro_batch=1", "parallel.context=allgather",
                                      "data.pack=concat"};
  const auto context = [&](int64_t cp) {
    auto all = full;
    all.push_back(fmt::format("parallel.ring={}", cp));
    return all;
  };
  return {{"Megatron 1.7B / 48", 48, 0.41, 0.0, gpt(24, 2048, 16, 1, 1152)},
          {"Megatron 7.1B / 96, TP2", 96, 0.47, 0.0, gpt(30, 4096, 32, 2, 1152)},
          {"Megatron 16B / 192, TP4", 192, 0.49, 0.0, gpt(32, 6144, 48, 4, 1152)},
          {"Megatron 32B / 384, TP8", 384, 0.46, 0.0, gpt(37, 8192, 64, 8, 1152)},
          {"torchtitan 8B / 8, 8k", 8, 0.0, 5762.0, llama(8192, 16, {"train.micro_batch=2"})},
          {"torchtitan 8B / 8, 8k, compiled", 8, 0.0, 6667.0, llama(8192, 16, {"train.micro_batch=2"})},
          {"torchtitan 8B / 8, 32k", 8, 0.0, 3890.0, llama(32768, 8, full)},
          {"torchtitan 8B / 8, 64k CP2", 8, 0.0, 2540.0, llama(65536, 4, context(2))},
          {"torchtitan 8B / 8, 128k CP4", 8, 0.0, 1071.0, llama(131072, 2, context(4))},
          {"torchtitan 8B / 8, 256k CP8", 8, 0.0, 548.0, llama(262144, 1, context(8))}};
}

void print_row(const Published& row, const Calibration& calibration) {
  const Config config = parse_config("data.train = ['none.h5']\n", "published.toml", row.overrides);
  const RunLayout layout = resolve_layout(config, row.ranks);
  const int64_t vocab = config.model.vocab;
  const RankParameters parameters = largest_rank_parameters(config, layout, vocab);
  const StepTime time = step_time(config, layout, vocab, calibration, calibration.ranks_per_node, parameters);
  const double mine = time.tokens_per_s / static_cast<double>(row.ranks);
  const double published = row.mfu > 0.0 ? row.mfu : row.tokens_per_s / mine * time.mfu_full;
  const double ratio = time.mfu_full / published;
  fmt::print("{:<32} {:>6.2f}B  published {:4.1f} %  predicted {:4.1f} %  ratio {:.2f}{}\n", row.name,
             static_cast<double>(model_size(config, vocab).total()) / 1e9, 100.0 * published, 100.0 * time.mfu_full,
             ratio, std::abs(ratio - 1.0) > 0.15 ? "  MISS" : "");
  fmt::print(
      "    step {:.0f} ms: products {:.0f}, attention {:.0f}, elementwise {:.0f}, loss {:.0f}, optimizer {:.0f}, "
      "exposed {:.0f} of {:.0f}; {:.0f} tokens/s/GPU, memory {:.0f} GiB\n",
      time.total() * 1e3, time.products * 1e3, time.attention * 1e3, time.elementwise * 1e3, time.loss * 1e3,
      time.optimizer * 1e3, time.exposed * 1e3, time.communication * 1e3, mine,
      static_cast<double>(memory_plan(config, layout, vocab, calibration.precision, parameters).total()) / (1 << 30));
}

}  // namespace
}  // namespace farsight

int main() {
  const farsight::Calibration calibration = farsight::h100_calibration();
  for (const auto& row : farsight::rows()) farsight::print_row(row, calibration);
  return 0;
}
