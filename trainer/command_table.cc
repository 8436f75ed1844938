// SPDX-License-Identifier: Apache-2.0
// Every command of the program. Adding one = its function in trainer/commands/ and an entry here.
#include "trainer/command_line.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/checkpoint.h"
#include "trainer/commands/completion.h"
#include "trainer/commands/config.h"
#include "trainer/commands/data.h"
#include "trainer/commands/doctor.h"
#include "trainer/commands/eval.h"
#include "trainer/commands/forecast.h"
#include "trainer/commands/generate.h"
#include "trainer/commands/plan.h"
#include "trainer/commands/train.h"
#include "trainer/commands/verify.h"

namespace farsight {
namespace {

Command train_command() {
  return {.name = "train",
          .summary = "train a model; start it with mpirun or srun for several ranks",
          .synopsis = "CONFIG [--section.key=value ...] [--resume=never|auto|PATH]",
          .help =
              "Trains as CONFIG says and leaves everything in run.dir. --resume=auto goes on from the newest good\n"
              "checkpoint, in any layout; --resume=PATH from that one; never (the default) refuses a directory that\n"
              "holds checkpoints. SIGUSR1 or a time limit: save, then exit with 85.",
          .example = "mpirun -np 2 --bind-to none farsight train lm.toml --parallel.ring=2",
          .least_positional = 1,
          .most_positional = 1,
          .options = {{"resume", "never|auto|PATH", "never", "where to go on from"}},
          .overrides = true,
          .parallel = true,
          .run = run_train};
}

Command eval_command() {
  return {.name = "eval",
          .summary = "a trained model over a whole split: perplexity, or forecast errors beside baselines",
          .synopsis =
              "RUN|CHECKPOINT [--data=FILE] [--split=NAME] [--device=auto|cpu|cuda] [--horizon=N] [--details] [--json] "
              "[--drop-last=N]",
          .help =
              "Language models: every token but the first of a file is scored once; all ranks form one ring.\n"
              "Forecasters: every window is scored once, shared out over the ranks, by the checkpoint with the best\n"
              "validation loss; repeat-last, seasonal-naive, window-mean and the closed-form linear forecaster beside\n"
              "it. MSE, MAE, RMSE and CRPS are of normalised channels.",
          .example = "farsight eval runs/shakespeare --split=test",
          .least_positional = 1,
          .most_positional = 1,
          .options = {{"data", "FILE", "the data of the run", "another dataset of the same tokeniser"},
                      {"split", "NAME", "valid", "train, valid or test"},
                      {"horizon", "N", "data.horizon", "forecasters: only the first N rows of each forecast"},
                      {"details", "", "", "forecasters: also by channel and by step"},
                      {"json", "", "", "forecasters: everything, as JSON"},
                      {"drop-last", "N", "0 = none",
                       "forecasters: leave out the windows behind the last full batch of N, as old tables do"},
                      {"device", "auto|cpu|cuda", "auto", "where to compute, whatever the run was trained on"}},
          .parallel = true,
          .run = run_eval};
}

Command generate_command() {
  return {.name = "generate",
          .summary = "continue a text with a trained model",
          .synopsis =
              "RUN|CHECKPOINT --prompt=TEXT [--tokens=N] [--temperature=T] [--top-k=K] [--top-p=P] [--seed=N] "
              "[--device=auto|cpu|cuda]",
          .help = "The same seed gives the same text.",
          .example = "farsight generate runs/shakespeare --prompt=\"ROMEO:\" --tokens=200",
          .least_positional = 1,
          .most_positional = 1,
          .options = {{"prompt", "TEXT", "", "the text to continue"},
                      {"tokens", "N", "200", "tokens to write"},
                      {"temperature", "T", "0.8", "0 = always the most likely token"},
                      {"top-k", "K", "0", "draw from the K most likely; 0 = all"},
                      {"top-p", "P", "1", "draw from the most likely that hold this share of the probability"},
                      {"seed", "N", "0", "of the draws"},
                      {"device", "auto|cpu|cuda", "auto", "where to compute, whatever the run was trained on"}},
          .run = run_generate};
}

Command forecast_command() {
  return {.name = "forecast",
          .summary = "forecast the rows behind the last one, in original units, baselines beside",
          .synopsis = "RUN|CHECKPOINT [--input=F.csv] [--horizon=N] [-o F.csv] [--units] [--device=auto|cpu|cuda] ...",
          .help =
              "Writes a long table: unique_id,ds,cutoff,horizon,y,mean,q0.1 ...,repeat_last,seasonal_naive,linear.\n"
              "The input holds the last rows of the series with the channels of the training data, in any order; rows\n"
              "behind the last measurement may give covariates that are known in advance. Without --input the rows\n"
              "behind the end of the training file are forecast. Scaling is that of training, never of the input. A\n"
              "horizon beyond that of the model is rolled out, with quantiles of sample paths.",
          .example = "farsight forecast runs/load --input=recent.csv --horizon=48 -o forecast.csv",
          .least_positional = 1,
          .most_positional = 1,
          .options = {{"input", "F.csv", "the end of the training data", "the recent past"},
                      {"horizon", "N", "data.horizon", "rows to forecast"},
                      {"output", "F.csv", "the terminal", "where to write; -o is the same"},
                      {"units", "", "", "a column with the unit of each channel"},
                      {"paths", "N", "200", "sample paths of a rolled out distribution"},
                      {"seed", "N", "0", "of sample paths"},
                      {"time", "NAME", "found out", "input: the column of dates"},
                      {"series", "NAME", "", "input: the column that tells several series apart"},
                      {"date-format", "FORMAT", "found out", "input: as in farsight data csv"},
                      {"timezone", "ZONE", "UTC", "input: zone of dates without an offset"},
                      {"decimal", "C", ".", "input: the decimal mark"},
                      {"delimiter", "C", "auto", "input: what stands between columns; tab for a tab"},
                      {"missing", "mask|ffill|error", "mask", "input: cells without a value"},
                      {"device", "auto|cpu|cuda", "auto", "where to compute, whatever the run was trained on"}},
          .run = run_forecast};
}

Command data_command() {
  return {.name = "data",
          .summary = "prepare and check datasets",
          .synopsis = "text|csv|inspect|verify|tokenizer ...",
          .help = "farsight data --help lists what there is; each has a --help of its own.",
          .example = "farsight data text book.txt --tokenizer=byte --by=position -o book.h5",
          .run_raw = run_data_command};
}

Command checkpoint_command() {
  return {.name = "checkpoint",
          .summary = "list, inspect and verify checkpoints",
          .synopsis = "list|inspect|verify ...",
          .help = "farsight checkpoint --help lists what there is.",
          .example = "farsight checkpoint verify runs/shakespeare --level=full",
          .run_raw = run_checkpoint_command};
}

Command bench_command() {
  return {.name = "bench",
          .summary = "speeds as ratios to a reference and to the measured ceiling; calibrations for plan",
          .synopsis = "attention [--tokens=N,N...] [--heads=N] [--width=N] [--forward] | kernels|comm [--json]",
          .help =
              "attention: blockwise attention beside dense attention written with a BLAS, in the same run, results\n"
              "compared first; and the fraction of the FMA peak measured in between.\n"
              "kernels: rates of products, attention and elementwise operations. comm, under mpirun: start and rate\n"
              "of every pattern of communication. With --json they print what plan --calibration reads.",
          .example = "farsight bench attention --tokens=4096,8192",
          .least_positional = 1,
          .most_positional = 1,
          .options = {{"tokens", "N,N...", "1024,2048,4096,8192", "sequence lengths"},
                      {"heads", "N", "12", "heads"},
                      {"width", "N", "64", "width of a head"},
                      {"forward", "", "", "leave the backward pass out"},
                      {"json", "", "", "print JSON (kernels, comm)"}},
          .parallel = true,
          .run = run_bench};
}

Command verify_command() {
  return {
      .name = "verify",
      .summary = "prove that a configuration trains with the right numbers in its layout",
      .synopsis = "CONFIG [--section.key=value ...] [--ranks=N] [--sequence=N] [--json]",
      .help =
          "On threads of this machine, without MPI: the gradients of the model against differences of its loss,\n"
          "then a few steps in the layout of CONFIG, and in every axis alone, against one rank. Initial weights\n"
          "must be equal bit for bit, the first loss within 1e-6, gradients within 1e-5 (or four times what a change\n"
          "of every weight's last bit does to them on one rank, where that is more), losses within 1e-4.\n"
          "Runs with few samples, and with random tokens where the data do not exist yet; model and attention\n"
          "stay as they are. A layout that cannot be is listed as refused.\n"
          "Numbers that do not agree end it with 70 (a bug to report: no configuration may cause them), a loss\n"
          "that is not finite on one rank with 76, too little memory with 69.",
      .example = "farsight verify lm.toml --ranks=4 --parallel.ring=2 --sequence=256",
      .least_positional = 1,
      .most_positional = 1,
      .options = {{"ranks", "N", "the product of parallel.*", "ranks to run, at most"},
                  {"steps", "N", "3", "steps in every layout"},
                  {"sequence", "N", "data.sequence", "tokens of a sample, to be done sooner"},
                  {"directions", "N", "3, 1 for large models",
                   "gradient check: directions per tensor; 0 = leave it out"},
                  {"own-layout", "", "", "leave out the layouts that CONFIG does not say"},
                  {"json", "", "", "print one JSON object"}},
      .overrides = true,
      .run = run_verify};
}

Command plan_command() {
  return {.name = "plan",
          .summary = "what a configuration costs and every problem it has, without running it",
          .synopsis = "CONFIG [--section.key=value ...] [--ranks=N] [--memory=80GiB] [--candidates] [--json]",
          .help =
              "Prints layout, parameters, memory per rank, arithmetic, traffic and predicted time of a step, after a\n"
              "dry run of every rank's slices. Needs no MPI and no device. Fails (78) with every problem at once.\n"
              "--candidates compares every way to spread the configuration over the ranks.",
          .example = "farsight plan lm.toml --ranks=8 --memory=80GiB --candidates",
          .least_positional = 1,
          .most_positional = 1,
          .options = {{"ranks", "N", "the product of parallel.*", "number of ranks to plan for"},
                      {"memory", "BYTES", "", "memory of a rank, such as 80GiB: refuse what does not fit"},
                      {"candidates", "", "", "layouts, states, recomputation and micro-batches, best first"},
                      {"rows", "K", "10", "of --candidates"},
                      {"device", "cpu|h100", "that of the run", "what times are predicted for"},
                      {"calibration", "FILE,FILE", "", "measurements of farsight bench kernels|comm --json"},
                      {"ranks-per-node", "N", "all, h100: 8", "ranks that share the fast links"},
                      {"json", "", "", "print JSON"}},
          .overrides = true,
          .run = run_plan};
}

Command doctor_command() {
  return {.name = "doctor",
          .summary = "what was built, what is present, how ranks and cores map, self-tests",
          .synopsis = "[--json]",
          .help =
              "Alone it examines this machine; under mpirun every rank reports. Fails (69) when something that a\n"
              "run needs is unavailable.",
          .example = "mpirun -np 2 --bind-to none farsight doctor",
          .options = {{"json", "", "", "print JSON"}},
          .parallel = true,
          .run = run_doctor};
}

Command config_command() {
  return {.name = "config",
          .summary = "start, show and explain configurations",
          .synopsis = "init | show CONFIG [--section.key=value ...] | explain [KEY] | schema",
          .help =
              "init prints a configuration to start from. show prints every key of CONFIG with its effective value\n"
              "and where it was set. explain documents one key, or all. schema prints a JSON schema for editors.",
          .example = "farsight config show lm.toml --optim.lr=3e-4",
          .least_positional = 1,
          .most_positional = 2,
          .overrides = true,
          .run = run_config};
}

Command completion_command() {
  return {.name = "completion",
          .summary = "print a completion script for the shell",
          .synopsis = "bash",
          .help = "Prints a script that completes commands, options and configuration keys.",
          .example = "source <(farsight completion bash)",
          .least_positional = 1,
          .most_positional = 1,
          .run = run_completion};
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> table{
      train_command(),  eval_command(), generate_command(), forecast_command(), data_command(),   checkpoint_command(),
      config_command(), plan_command(), verify_command(),   bench_command(),    doctor_command(), completion_command()};
  return table;
}

}  // namespace farsight
