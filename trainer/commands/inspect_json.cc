// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/inspect_json.h"

#include <nlohmann/json.hpp>

#include "data/date_time.h"

namespace farsight {

namespace {

using Json = nlohmann::ordered_json;

constexpr auto kReplace = Json::error_handler_t::replace;  // names of foreign files need not be UTF-8

Json info_json(const DataFileInfo& info, const char* kind) {
  return {{"file", info.file},
          {"kind", kind},
          {"bytes", info.file_bytes},
          {"uuid", info.uuid},
          {"licence", info.licence},
          {"sources", info.source_names},
          {"checksum_file", info.sidecar}};
}

template <typename T>
Json maybe(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json span_json(const RowSpan& span) {
  Json json = {{"rows", span.rows}};
  if (span.has_times()) {
    json["first"] = iso_time(span.first_ns);
    json["last"] = iso_time(span.last_ns);
  }
  return json;
}

Json channel_json(const Channel& channel, const ChannelStatistics& s) {
  return {{"name", channel.name}, {"role", to_string(channel.role)},
          {"unit", channel.unit}, {"mean", s.mean},
          {"std", s.std},         {"min", s.min},
          {"median", s.median},   {"max", s.max},
          {"iqr", s.iqr},         {"count", s.count}};
}

Json row_json(const BaselineRow& row) {
  const MetricValues& v = row.values;
  Json json = {{"lookback", row.lookback}, {"horizon", row.horizon},         {"forecast", to_string(row.baseline)},
               {"windows", row.windows},   {"all_windows", row.all_windows}, {"targets", v.count}};
  if (v.count == 0.0) return json;
  json.update({{"mse", v.mse},
               {"mae", v.mae},
               {"mae_original", v.mae_original},
               {"mase", maybe(v.mase)},
               {"mase_channels_left_out", v.mase_channels_left_out},
               {"smape", v.smape}});
  return json;
}

Json baselines_json(const BaselineTable& table) {
  Json rows = Json::array();
  for (const BaselineRow& row : table.rows) rows.push_back(row_json(row));
  return {{"split", table.request.split}, {"season", table.request.season}, {"drop_last", table.request.drop_last},
          {"channels", table.targets},    {"notes", table.notes},           {"rows", std::move(rows)}};
}

}  // namespace

std::string corpus_json(const CorpusDescriptor& corpus) {
  Json json = info_json(corpus, "tokens");
  const TokenizerInfo& t = corpus.tokenizer;
  json["normalised"] = corpus.normalised;
  json["tokenizer"] = {{"type", t.type},     {"vocab_size", t.vocab_size}, {"fingerprint", t.fingerprint},
                       {"eos_id", t.eos_id}, {"bos_id", t.bos_id},         {"pad_id", t.pad_id}};
  for (const SplitDescriptor& split : corpus.splits) {
    json["splits"][split.name] = {{"tokens", split.tokens.size},
                                  {"documents", split.doc_offsets ? split.doc_offsets->size - 1 : 1},
                                  {"bytes_of_text", split.bytes_of_text}};
  }
  return json.dump(2, ' ', /*ensure_ascii=*/false, kReplace) + "\n";
}

std::string series_json(const SeriesFacts& facts, const BaselineTable* baselines) {
  const SeriesDescriptor& file = facts.file;
  Json json = info_json(file, "series");
  json["frequency"] = to_string(file.frequency);
  json["all"] = span_json(facts.all);
  json["series"] = Json::array();
  for (const SeriesEntry& entry : file.series) json["series"].push_back({{"id", entry.id}, {"rows", entry.rows}});
  json["static_names"] = file.static_names;
  if (facts.unread.empty()) {
    json["masked_cells"] = facts.masked;
  } else {
    json["unread"] = facts.unread;
  }
  json["splits"] = Json::object();
  for (const auto& [name, span] : facts.splits) json["splits"][name] = span_json(span);
  json["channels"] = Json::array();
  for (size_t c = 0; c < file.channels.size(); ++c) {
    json["channels"].push_back(channel_json(file.channels[c], file.statistics[c]));
  }
  if (baselines != nullptr) json["baselines"] = baselines_json(*baselines);
  return json.dump(2, ' ', /*ensure_ascii=*/false, kReplace) + "\n";
}

}  // namespace farsight
