// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/generate.h"

#include <ostream>

#include "data/tokenizer.h"
#include "kernels/error.h"
#include "parallel/comm.h"
#include "trainer/generator.h"
#include "trainer/run_device.h"
#include "trainer/trained_model.h"

namespace farsight {
namespace {

SamplingOptions sampling_options(const CommandArguments& arguments) {
  SamplingOptions options;
  options.temperature = arguments.number("temperature", 0.8);
  options.top_k = arguments.integer("top-k", 0);
  options.top_p = arguments.number("top-p", 1.0);
  options.seed = static_cast<uint64_t>(arguments.integer("seed", 0));
  if (options.temperature < 0.0 || options.top_k < 0 || options.top_p <= 0.0 || options.top_p > 1.0) {
    fail(ErrorKind::usage, "generate: --temperature and --top-k must be >= 0, --top-p must be in (0, 1]");
  }
  return options;
}

}  // namespace

int run_generate(const CommandArguments& arguments, std::ostream& out, std::ostream& err) {
  const auto options = sampling_options(arguments);
  const int64_t count = arguments.integer("tokens", 200);
  if (count < 1) fail(ErrorKind::usage, "generate: --tokens is {}; it must be at least 1", count);
  const auto run = find_run(arguments.positional.at(0));
  Config config = run_config(run);
  if (config.task.kind != TaskKind::lm) {
    fail(ErrorKind::config, "'{}' is a forecaster; farsight forecast continues time series", run.directory);
  }
  config.run.device = parse_device(arguments.get("device", "auto"));
  const auto alone = make_self_communicator();
  const RunDevice device(config, *alone, /*training=*/false);
  auto trained = load_trained_model(run, config);
  for (const auto& note : trained.notes) err << note << "\n";
  auto tokenizer = make_tokenizer(trained.tokenizer);
  const std::string prompt = arguments.get("prompt", "");
  const auto ids = encode(*tokenizer, prompt);
  if (ids.empty())
    fail(ErrorKind::usage, "generate: --prompt is empty; pass the text to continue, e.g. --prompt=\"Once\"");

  out << printable(prompt, nullptr);
  std::string pending;
  Generator generator(*trained.model, trained.config.data.sequence);
  generator.generate(std::vector<int32_t>(ids.begin(), ids.end()), count, options,
                     static_cast<int32_t>(trained.tokenizer.eos_id), [&](int32_t token) {
                       std::string bytes = pending;
                       tokenizer->decode(static_cast<uint32_t>(token), bytes);
                       out << printable(bytes, &pending) << std::flush;
                     });
  out << printable(pending, nullptr) << "\n" << std::flush;
  return 0;
}

}  // namespace farsight
