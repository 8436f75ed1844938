// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "trainer/plan.h"

namespace farsight {
namespace {

std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
}

std::string size_text(int64_t bytes) {
  constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; unit + 1 < units.size() && value >= 1024.0; ++unit) value /= 1024.0;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string flops_text(double flops) {
  constexpr std::array<const char*, 6> units{"", "k", "M", "G", "T", "P"};
  size_t unit = 0;
  for (; unit + 1 < units.size() && flops >= 1000.0; ++unit) flops /= 1000.0;
  return fmt::format("{:.3g} {}FLOP", flops, units[unit]);
}

std::string row(const char* what, const std::string& value) { return fmt::format("  {:<22} {:>16}\n", what, value); }

std::string layout_text(const Config& config, const RunLayout& l) {
  std::string axes = fmt::format("data {} x ring {}", l.data, l.ring);
  if (l.ulysses > 1) axes += fmt::format(" x ulysses {}", l.ulysses);
  if (l.tensor > 1) axes += fmt::format(" x tensor {}", l.tensor);
  if (l.ring > 1) axes += fmt::format(", order {}", to_string(l.order));
  if (l.context() > 1)
    axes += fmt::format(", about {} tokens of a sequence on a rank",
                        (config.data.sequence + l.context() - 1) / l.context());
  if (config.parallel.zero > 0) axes += fmt::format(", zero {} over {} ranks", config.parallel.zero, l.zero_group);
  return fmt::format(
      "layout       {} rank{}: {}\n"
      "batch        {} samples of {} tokens = {} passes of micro-batch {} on each of {} data ranks\n",
      l.world, l.world == 1 ? "" : "s", axes, config.train.batch_samples, config.data.sequence, l.passes, l.micro_batch,
      l.data);
}

std::string size_section(const ModelSize& size) {
  std::string text = "parameters\n";
  text += row("embedding", grouped(size.embedding));
  if (size.positions > 0) text += row("positions", grouped(size.positions));
  text += row("attention", grouped(size.attention)) + row("mlp", grouped(size.mlp)) + row("norms", grouped(size.norms));
  if (size.head > 0) text += row("head", grouped(size.head));
  return text + row("total", grouped(size.total()));
}

std::string memory_section(const MemoryPlan& memory) {
  std::string text = fmt::format("memory of a rank (the one that holds most, at its fullest: {})\n", memory.moment);
  text += row("weights", size_text(memory.weights)) + row("gradients", size_text(memory.gradients));
  text += row("optimizer", size_text(memory.optimizer)) + row("activations", size_text(memory.activations));
  text += row("temporaries", size_text(memory.working));
  if (memory.loss > 0) text += row("loss chunk", size_text(memory.loss));
  if (memory.exchange > 0) text += row("in transit", size_text(memory.exchange));
  text += row("data read ahead", size_text(memory.data)) + row("slack, 5 %", size_text(memory.slack));
  text += row("total", size_text(memory.total()));
  if (memory.offloaded > 0) text += row("in host memory", size_text(memory.offloaded));
  return text;
}

std::string traffic_section(const TrafficPlan& traffic) {
  std::string text = "traffic sent by a rank per step\n";
  const auto line = [&](const char* what, int64_t bytes) {
    if (bytes > 0) text += row(what, size_text(bytes));
  };
  line("gradients", traffic.gradients);
  line("weights", traffic.weights);
  line("tensor ranks", traffic.tensor);
  line("keys and values", traffic.keys);
  line("heads", traffic.heads);
  line("embedding and loss", traffic.loss);
  return text + row("total", size_text(traffic.total()));
}

std::string work_section(const Config& config, const Plan& plan) {
  std::string text = fmt::format(
      "arithmetic   6 P_matmul + 12 L H D K; K = {:.1f} keys a query sees on average ({}); repeated forward passes are "
      "not counted\n",
      plan.visible_keys, config.attention.mask.causal ? "causal: half of the pairs" : "all pairs of the mask");
  text += row("per token", flops_text(plan.flops_per_token)) + row("per step", flops_text(plan.flops_per_step));
  return text + traffic_section(plan.traffic);
}

std::string seconds_text(double seconds) {
  return seconds < 1.0 ? fmt::format("{:.1f} ms", seconds * 1e3) : fmt::format("{:.2f} s", seconds);
}

std::string time_section(const Plan& plan) {
  const StepTime& t = plan.time;
  std::string text = fmt::format("time of a step, predicted for {} in {}{}\n", plan.machine.calibration.device,
                                 plan.machine.calibration.precision.name,
                                 plan.machine.node() > 0 ? fmt::format(", {} ranks a node", plan.machine.node()) : "");
  text += row("matrix products", seconds_text(t.products)) + row("attention", seconds_text(t.attention));
  text += row("elementwise", seconds_text(t.elementwise)) + row("embedding and loss", seconds_text(t.loss));
  text += row("optimizer", seconds_text(t.optimizer));
  text += row("communication", seconds_text(t.communication)) + row("of it exposed", seconds_text(t.exposed));
  text += row("total", seconds_text(t.total())) + row("tokens/s", grouped(static_cast<int64_t>(t.tokens_per_s)));
  if (t.mfu > 0.0) text += row("MFU", fmt::format("{:.1f} %", 100.0 * t.mfu));
  return text + fmt::format("dry run      {} ranks x {} tensors: every slice is where its neighbours expect it\n",
                            grouped(plan.dry_run.ranks), plan.dry_run.tensors);
}

std::string data_section(const Config& config, const DatasetFacts& data) {
  if (!data.present) return "";
  return fmt::format("data         {} training samples of {} tokens, vocabulary {}; {} = {} steps\n",
                     grouped(data.epoch_samples), config.data.sequence, data.vocab, to_string(config.train.steps),
                     amount_in_steps(config.train.steps, config, data.epoch_samples));
}

}  // namespace

std::string plan_text(const Config& config, const Plan& plan) {
  std::string text = layout_text(config, plan.layout) + data_section(config, plan.data) + size_section(plan.size) +
                     memory_section(plan.memory) + work_section(config, plan) + time_section(plan);
  for (const std::string& note : plan.notes) text += "note: " + note + "\n";
  return text;
}

std::string plan_json(const Config& config, const Plan& plan) {
  const RunLayout& l = plan.layout;
  const ModelSize& s = plan.size;
  const MemoryPlan& m = plan.memory;
  nlohmann::ordered_json json;
  json["layout"] = {{"ranks", l.world},
                    {"data", l.data},
                    {"ring", l.ring},
                    {"ulysses", l.ulysses},
                    {"tensor", l.tensor},
                    {"zero", config.parallel.zero},
                    {"order", to_string(l.order)},
                    {"stripe", l.stripe},
                    {"micro_batch", l.micro_batch},
                    {"passes", l.passes},
                    {"batch_samples", config.train.batch_samples},
                    {"sequence", config.data.sequence}};
  json["parameters"] = {
      {"embedding", s.embedding}, {"positions", s.positions}, {"attention", s.attention}, {"mlp", s.mlp},
      {"norms", s.norms},         {"head", s.head},           {"matmul", s.matmul},       {"total", s.total()}};
  json["memory_bytes"] = {{"weights", m.weights},         {"gradients", m.gradients}, {"optimizer", m.optimizer},
                          {"activations", m.activations}, {"working", m.working},     {"loss", m.loss},
                          {"exchange", m.exchange},       {"data", m.data},           {"slack", m.slack},
                          {"offloaded", m.offloaded},     {"total", m.total()},       {"moment", m.moment}};
  json["flops"] = {
      {"visible_keys", plan.visible_keys}, {"per_token", plan.flops_per_token}, {"per_step", plan.flops_per_step}};
  const TrafficPlan& t = plan.traffic;
  json["bytes_sent_per_step"] = {{"gradients", t.gradients}, {"weights", t.weights}, {"tensor", t.tensor},
                                 {"keys", t.keys},           {"heads", t.heads},     {"loss", t.loss}};
  const StepTime& time = plan.time;
  json["step_seconds"] = {
      {"device", plan.machine.calibration.device}, {"products", time.products}, {"attention", time.attention},
      {"elementwise", time.elementwise},           {"loss", time.loss},         {"optimizer", time.optimizer},
      {"communication", time.communication},       {"exposed", time.exposed},   {"total", time.total()}};
  json["tokens_per_s"] = time.tokens_per_s;
  json["mfu"] = time.mfu;
  json["vocab"] = plan.vocab;
  if (plan.data.present) json["epoch_samples"] = plan.data.epoch_samples;
  json["notes"] = plan.notes;
  return json.dump(2) + "\n";
}

}  // namespace farsight
