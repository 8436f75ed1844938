// SPDX-License-Identifier: Apache-2.0
// How a verification is shown: a table for people, an object for scripts.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "trainer/verify.h"

namespace farsight {
namespace {

const char* word(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::unclear:
      return "unclear";
    case Verdict::wrong:
      return "WRONG";
  }
  return "";
}

const char* word(const LayoutReport& layout) {
  if (!layout.refusal.empty()) return "refused";
  return layout.mismatch.empty() ? "ok" : "MISMATCH";
}

std::string gradient_table(const LayoutVerdict& report) {
  const GradientReport& gradients = report.gradients;
  if (gradients.rows.empty()) return "gradients    left out \n";
  size_t width = 6;
  for (const auto& row : gradients.rows) width = std::max(width, row.tensor.size());
  std::string text = fmt::format(
      "gradients    against differences of the loss ({:.6f}, repeatable to {:.0e}) along {} random "
      "direction{}\n"
      "  {:<{}}  {:>13}  {:>13}  {:>10}\n",
      gradients.loss, gradients.rounding, report.directions, report.directions == 1 ? "" : "s", "tensor", width,
      "measured", "expected", "difference");
  for (const auto& row : gradients.rows) {
    text += fmt::format("  {:<{}}  {:>13.6e}  {:>13.6e}  {:>10.1e}  {}\n", row.tensor, width, row.measured,
                        row.expected, row.difference, word(row.verdict()));
  }
  return text;
}

std::string layout_table(const LayoutVerdict& report) {
  size_t width = 6;
  for (const auto& layout : report.layouts) width = std::max(width, layout.name.size());
  std::string text = fmt::format(
      "layouts      {} steps of {} samples of {} tokens, against one rank; allowed {:.0e}, {:.0e}, {:.0e}\n"
      "  {:<{}}  {:>5}  {:>7}  {:>8}  {:>8}  {:>8}\n",
      report.steps, report.config.train.batch_samples, report.config.data.sequence, kFirstLossTolerance,
      kLayoutGradientTolerance, kLossesTolerance, "layout", width, "ranks", "weights", "loss 1", "gradient", "losses");
  for (const auto& layout : report.layouts) {
    text += fmt::format("  {:<{}}  {:>5}  ", layout.name, width, layout.ranks);
    const Agreement& a = layout.agreement;
    if (layout.refusal.empty()) {
      text += fmt::format("{:>7}  {:>8.1e}  {:>8.1e}  {:>8.1e}  {}{}\n", a.same_initial ? "equal" : "DIFFER",
                          a.first_loss, a.worst_gradient, a.last_loss, word(layout),
                          layout.mismatch.empty() ? "" : ": " + layout.mismatch);
    } else {
      text += fmt::format("refused: {}\n", layout.refusal);
    }
  }
  return text;
}

// JSON has no infinity: null stands for a difference that is none.
nlohmann::ordered_json number(double value) {
  if (std::isfinite(value)) return value;
  return nullptr;
}

nlohmann::ordered_json layout_json(const LayoutReport& layout) {
  nlohmann::ordered_json json{
      {"name", layout.name}, {"own", layout.own}, {"ranks", layout.ranks}, {"verdict", word(layout)}};
  if (!layout.refusal.empty()) {
    json["reason"] = layout.refusal;
    return json;
  }
  const Agreement& a = layout.agreement;
  json["weights_equal"] = a.same_initial;
  json["samples_equal"] = a.same_samples;
  json["loss_1"] = number(a.first_loss);
  json["gradient"] = number(a.worst_gradient);
  json["gradient_tensor"] = a.gradient_tensor;
  json["gradient_norms"] = number(a.worst_norm);
  json["losses"] = number(a.last_loss);
  json["seconds"] = layout.seconds;
  if (!layout.mismatch.empty()) json["reason"] = layout.mismatch;
  return json;
}

}  // namespace

std::string verify_header(const LayoutVerdict& report) {
  std::string text =
      fmt::format("verify       {} rank{} in this process, {} parameters: up to {:.2f} GiB of {:.2f} GiB\n",
                  report.ranks, report.ranks == 1 ? "" : "s", report.parameters,
                  static_cast<double>(report.memory) / (1 << 30), static_cast<double>(report.memory_limit) / (1 << 30));
  for (const auto& note : report.notes) text += "note: " + note + "\n";
  if (report.ranks == 1) text += "note: one rank; --ranks=N compares layouts of up to N ranks\n";
  return text;
}

std::string verify_text(const LayoutVerdict& report) {
  std::string text = gradient_table(report) + layout_table(report);
  const auto unclear = std::count_if(report.gradients.rows.begin(), report.gradients.rows.end(),
                                     [](const GradientRow& row) { return row.verdict() == Verdict::unclear; });
  if (unclear > 0) {
    text += fmt::format("note: the gradients of {} tensors could not be measured: their loss is too rough\n", unclear);
  }
  return text;
}

std::string verify_json(const LayoutVerdict& report, const std::string& config_path) {
  const std::string verdict = report.verdict(config_path);
  nlohmann::ordered_json json;
  json["config"] = config_path;
  json["verdict"] = verdict.empty() ? "ok" : "mismatch";
  if (!verdict.empty()) json["message"] = verdict;
  json["ranks"] = report.ranks;
  json["parameters"] = report.parameters;
  json["memory_bytes"] = {{"needed", report.memory}, {"available", report.memory_limit}};
  json["steps"] = report.steps;
  json["batch_samples"] = report.config.train.batch_samples;
  json["sequence"] = report.config.data.sequence;
  json["notes"] = report.notes;
  auto& gradients = json["gradients"];
  gradients = {{"loss", number(report.gradients.loss)},
               {"rounding", number(report.gradients.rounding)},
               {"tolerance", kGradientTolerance},
               {"tensors", nlohmann::ordered_json::array()}};
  for (const auto& row : report.gradients.rows) {
    gradients["tensors"].push_back({{"name", row.tensor},
                                    {"measured", number(row.measured)},
                                    {"expected", number(row.expected)},
                                    {"difference", number(row.difference)},
                                    {"error", number(row.error)},
                                    {"verdict", word(row.verdict())}});
  }
  json["layouts"] = nlohmann::ordered_json::array();
  for (const auto& layout : report.layouts) json["layouts"].push_back(layout_json(layout));
  return json.dump(2) + "\n";
}

}  // namespace farsight
