// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/eval.h"

#include <cmath>
#include <ostream>

#include "kernels/error.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "trainer/agreed_error.h"
#include "trainer/commands/forecast.h"
#include "trainer/dataset.h"
#include "trainer/parallel_command.h"
#include "trainer/run_device.h"
#include "trainer/trained_model.h"
#include "trainer/training_step.h"

namespace farsight {
namespace {

constexpr int64_t kRowsPerPass = 8;

struct Evaluation {
  RunReference run;
  Config config;
  std::string split;
  DatasetFiles files;  // of rank 0
};

void check_tokenizer(const TrainedModel& trained, const Corpus& corpus) {
  const auto& fingerprint = corpus.tokenizer().fingerprint;
  if (fingerprint == trained.tokenizer.fingerprint) return;
  fail(ErrorKind::data,
       "the dataset was made with tokeniser {}, the model was trained with {}; prepare it with the same one",
       fingerprint, trained.tokenizer.fingerprint);
}

// All ranks in one ring: any number of them fits, and no sample is left over.
EvaluationResult evaluate_split(Communicator& world, TrainedModel& trained, const std::shared_ptr<Corpus>& corpus) {
  ParallelOptions options;
  options.data = 1;
  options.ring = world.size();
  Mesh mesh(world, options);
  const auto& config = trained.config;
  const bool documents = config.data.pack == PackChoice::documents;
  const auto order = choose_order(SequenceOrder::automatic, documents, config.attention.mask.causal,
                                  config.attention.mask.window_left, config.data.sequence, world.size());
  const SequenceLayout layout(order, config.data.sequence, world.size());
  StreamPlan plan;
  plan.shuffle = Shuffle::none;
  plan.sample_limit = corpus->samples();
  plan.global_batch = plan.micro_batch = kRowsPerPass;
  plan.ranges = reader_ranges(layout, mesh.context_index());
  BatchStream stream(corpus, plan);
  return evaluate(*trained.model, mesh, /*shards=*/nullptr, layout, stream, {});
}

int evaluate_run(Communicator& world, const Evaluation& job, std::ostream& out) {
  const auto files = broadcast_dataset(job.files, world);
  const RunDevice device = agreed([&] { return RunDevice(job.config, world, /*training=*/false); });
  TrainedModel trained;
  std::shared_ptr<Corpus> corpus;
  agreed([&] {
    together(world, [&] {
      trained = load_trained_model(job.run, job.config);
      corpus = open_split(files, job.config.data, job.split, /*evaluation=*/true, "");
      check_tokenizer(trained, *corpus);
    });
  });
  const auto result = evaluate_split(device.world(), trained, corpus);
  if (world.rank() != 0) return 0;
  for (const auto& note : trained.notes) out << note << "\n";
  out << fmt::format("{} step {}, split '{}': loss {:.4f}  perplexity {:.3f}", trained.checkpoint, trained.step,
                     job.split, result.loss(), std::exp(result.loss()));
  if (corpus->bytes_of_text() > 0) {
    out << fmt::format("  {:.4f} bits/byte",
                       result.loss_sum / (std::log(2.0) * static_cast<double>(corpus->bytes_of_text())));
  }
  out << fmt::format("  ({} targets)\n", result.targets) << std::flush;
  return 0;
}

}  // namespace

int run_eval(const CommandArguments& arguments, std::ostream& out, std::ostream& err) {
  const RunReference run = find_run(arguments.positional.at(0));
  if (run_config(run).task.kind == TaskKind::forecast) return run_eval_forecast(arguments, run, out, err);
  Evaluation job;
  const auto before = [&] {
    job.run = run;
    for (const char* option : {"horizon", "details", "json", "drop-last"}) {
      if (arguments.has(option))
        fail(ErrorKind::usage, "--{} is for forecasters; this run is a language model", option);
    }
    job.config = run_config(job.run);
    job.config.run.device = parse_device(arguments.get("device", "auto"));
    job.split = arguments.get("split", "valid");
    if (arguments.has("data")) {
      job.config.data.train = {arguments.get("data", "")};
      job.config.data.valid.clear();
      job.config.data.test.clear();
    }
    if (expected_root()) job.files = probe_dataset(job.config.data);
  };
  return run_parallel(err, before, [&](Communicator& world) { return evaluate_run(world, job, out); });
}

}  // namespace farsight
