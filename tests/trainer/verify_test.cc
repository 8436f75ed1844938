// SPDX-License-Identifier: Apache-2.0
// `farsight verify`: what is right passes, planted faults are found and named, and what it changes of a configuration.
#include "trainer/verify.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "tests/parity/parity_case.h"
#include "tests/sanitized.h"
#include "trainer/command_line.h"
#include "trainer/commands/verify.h"
#include "trainer/verify_corpus.h"
#include "trainer/verify_gradients.h"
#include "trainer/verify_layouts.h"

namespace farsight {
namespace {

const std::string kModel =
    "[model]\nlayers = 1\nwidth = 24\nheads = 4\nkv_heads = 2\nmlp_width = 40\nbias = true\ndropout = 0.1\n"
    "[attention]\nposition = \"learned\"\ndropout = 0.1\nqk_norm = \"none\"\n"
    "[train]\nbatch = \"64 samples\"\nmicro_batch = 4\n[optim]\nschedule = \"constant\"\n";

std::string config_text(const std::string& data) {
  return "[data]\ntrain = [\"" + data + "\"]\nsequence = 29\npack = \"documents\"\n" + kModel;
}

// On a corpus of sentences, unless overridden.
VerifyRequest request(int64_t ranks, const std::vector<std::string>& overrides = {}) {
  VerifyRequest r;
  r.config = parse_config(config_text(generated_corpus()), "verify.toml", overrides);
  r.ranks = ranks;
  r.steps = 2;
  r.directions = kSanitized ? 1 : 2;
  return r;
}

const LayoutReport& layout(const LayoutVerdict& report, const std::string& name) {
  for (const auto& l : report.layouts) {
    if (l.name == name) return l;
  }
  static const LayoutReport none;
  ADD_FAILURE() << "no layout '" << name << "' in\n" << verify_text(report);
  return none;
}

// What does not agree when one layout is run with another configuration.
std::string mismatch(const std::string& name, const std::function<void(Config&)>& spoil,
                     const std::vector<std::string>& overrides = {}) {
  VerifyRequest r = request(2, overrides);
  r.directions = 0;
  r.spoil_layout = [&](const std::string& which, Config& config) {
    if (which == name) spoil(config);
  };
  const LayoutVerdict report = verify(r);
  for (const auto& l : report.layouts) EXPECT_EQ(l.mismatch.empty(), l.name != name) << l.name << ": " << l.mismatch;
  EXPECT_NE(report.verdict("verify.toml").find("'" + name + "'"), std::string::npos);
  return layout(report, name).mismatch;
}

TEST(Verify, ARightConfigurationAgreesInEveryLayout) {
  VerifyRequest r = request(kSanitized ? 2 : 4, {"parallel.data=2", "parallel.ring=2", "parallel.zero=1"});
  if (kSanitized) r = request(2, {"parallel.ring=2"});
  std::string announced;
  r.announce = [&](const LayoutVerdict& report) { announced = verify_header(report); };
  const LayoutVerdict report = verify(r);
  EXPECT_EQ(report.verdict("verify.toml"), "");
  EXPECT_EQ(report.gradients.rows.size(), 19U) << verify_text(report);
  for (const auto& row : report.gradients.rows) EXPECT_EQ(row.verdict(), Verdict::ok) << row.tensor;
  EXPECT_TRUE(report.layouts.front().own);
  EXPECT_EQ(report.layouts.front().name,
            kSanitized ? "ring 2, striped, 2 passes" : "data 2 x ring 2, striped, zero 1, 2 passes");
  EXPECT_GE(report.layouts.size(), 11U);
  int64_t compared = 0;
  for (const auto& l : report.layouts) compared += l.refusal.empty() ? 1 : 0;
  EXPECT_GE(compared, 11) << verify_text(report);
  EXPECT_NE(announced.find("GiB"), std::string::npos) << announced;
  EXPECT_NE(announced.find("instead of 64"), std::string::npos) << announced;
}

TEST(Verify, ALayoutThatCannotBeIsListedWithItsReasonAndASmallerOneIsTried) {
  VerifyRequest r = request(3, {"train.batch=60 samples"});
  r.directions = 0;
  const LayoutVerdict report = verify(r);
  EXPECT_EQ(report.verdict("verify.toml"), "");
  EXPECT_NE(layout(report, "tensor 3").refusal.find("model.kv_heads = 2"), std::string::npos);
  EXPECT_EQ(layout(report, "tensor 2").refusal, "");
  EXPECT_NE(verify_text(report).find("refused: parallel.tensor = 3"), std::string::npos) << verify_text(report);
}

TEST(Verify, OtherInitialWeightsAreNamed) {
  const std::string said = mismatch("ring 2, zigzag", [](Config& c) { c.run.seed += 1; });
  EXPECT_NE(said.find("initial weights of embedding.weight"), std::string::npos) << said;
}

TEST(Verify, AnotherLossIsNamedWithItsSize) {
  const std::string said = mismatch("ulysses 2", [](Config& c) { c.attention.dropout = 0.2; });
  EXPECT_NE(said.find("loss of step 1 is off by"), std::string::npos) << said;
}

TEST(Verify, AnotherGradientIsNamedWithTensorAndSize) {
  // The reported loss has no entropy in it, the gradient has.
  const std::string said =
      mismatch("tensor 2", [](Config& c) { c.attention.entropy_weight = 0.11; }, {"attention.entropy_weight=0.1"});
  EXPECT_NE(said.find("the gradient of layers.0."), std::string::npos) << said;
  EXPECT_NE(said.find("off by"), std::string::npos) << said;
}

TEST(Verify, AnotherUpdateIsFoundByLaterLosses) {
  const std::string said = mismatch("data 2, zero 2", [](Config& c) { c.optim.lr *= 1.5; });
  EXPECT_NE(said.find("the update differs"), std::string::npos) << said;
}

TEST(Verify, OtherSamplesAreFound) {
  const std::string said = mismatch("data 2", [](Config& c) { c.train.batch_samples += 2; });
  EXPECT_NE(said.find("other samples"), std::string::npos) << said;
}

// What the gradient check says when the gradients that it is given are not those of the model.
std::string wrong_gradient(const std::function<void(NamedTensors&)>& spoil) {
  VerifyRequest r = request(1, {"parallel.data=1"});
  r.only_own = true;
  r.spoil_gradients = spoil;
  return verify(r).verdict("verify.toml");
}

TEST(Verify, AGradientThatIsNotThatOfTheLossIsNamed) {
  EXPECT_EQ(wrong_gradient([](NamedTensors&) {}), "");
  const std::string scaled = wrong_gradient([](NamedTensors& g) {
    for (float& x : g.at("layers.0.attention.v.weight")) x *= 1.01F;
  });
  EXPECT_NE(scaled.find("layers.0.attention.v.weight is wrong"), std::string::npos) << scaled;
  EXPECT_EQ(scaled.find("out.weight"), std::string::npos) << scaled;
  // One row of 24 is missing, as a lost reduction of a slice would do.
  const std::string lost = wrong_gradient([](NamedTensors& g) {
    auto& tensor = g.at("layers.0.mlp.down.weight");
    std::fill(tensor.begin(), tensor.begin() + 40, 0.0F);
  });
  EXPECT_NE(lost.find("layers.0.mlp.down.weight is wrong"), std::string::npos) << lost;
  // Zero in theory: softmax does not see what is added to all scores of a row.
  const std::string noise = wrong_gradient([](NamedTensors& g) {
    for (float& x : g.at("layers.0.attention.k.bias")) x += 1e-3F;
  });
  EXPECT_NE(noise.find("layers.0.attention.k.bias is wrong"), std::string::npos) << noise;
}

TEST(Verify, RoundingIsMeasuredTensorByTensor) {
  VerifyRequest r = request(1, {"parallel.data=1", "train.batch=4 samples"});
  DatasetFiles files;
  files.train = {probe_corpus(generated_corpus())};
  const auto world = make_self_communicator();
  const LayoutRun reference = run_layout(*world, one_rank(r.config), files, 1);
  LayoutTrainer trainer(*world, one_rank(r.config), files);
  const auto before = trainer.model().parameters().values().clone();
  const auto rounding = gradient_rounding(trainer, reference.gradients);
  EXPECT_EQ(std::memcmp(before.data<float>(), trainer.model().parameters().values().data<float>(),
                        static_cast<size_t>(before.numel()) * sizeof(float)),
            0);
  for (const auto& [name, gradient] : reference.gradients) {
    double largest = 0.0;
    for (const float g : gradient) largest = std::max(largest, std::abs(static_cast<double>(g)));
    EXPECT_GT(rounding.at(name), 0.0) << name;
    if (name == "layers.0.attention.k.bias") {  // nothing but rounding
      EXPECT_GT(rounding.at(name), 0.1 * largest);
    } else {
      EXPECT_LT(rounding.at(name), 1e-5 * largest) << name;
    }
  }
  // Four times as much is within tolerance; an error is not.
  LayoutRun other = reference;
  float& bias = other.gradients.at("layers.0.attention.k.bias")[0];
  const float kept = bias;
  const auto noise = static_cast<float>(rounding.at("layers.0.attention.k.bias"));
  Agreement agreement;
  for (const auto& [times, agrees] : {std::pair{3.9F, true}, {4000.0F, false}}) {
    bias = kept + times * noise;
    agreement = compare(other, reference, rounding);
    EXPECT_EQ(disagreement(agreement).empty(), agrees) << times;
  }
  EXPECT_EQ(agreement.gradient_tensor, "layers.0.attention.k.bias");
}

TEST(Verify, NumbersThatAreNotFiniteNeverAgree) {
  LayoutRun reference;
  reference.initial = {{"w", {1.0F}}};
  reference.gradients = {{"w", {1.0F}}};
  reference.losses = reference.norms = {1.0, 1.0};
  EXPECT_EQ(disagreement(compare(reference, reference)), "");
  LayoutRun run = reference;
  run.losses[1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(disagreement(compare(run, reference)), "");
  run = reference;
  run.gradients["w"][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(disagreement(compare(run, reference)), "");
  run = reference;
  run.gradients.clear();
  EXPECT_NE(disagreement(compare(run, reference)), "");
  run = reference;
  run.losses.pop_back();
  EXPECT_NE(disagreement(compare(run, reference)), "");
}

TEST(Verify, ADivergingConfigurationIsNotAMismatch) {
  VerifyRequest r = request(2, {"parallel.ring=2", "optim.lr=1e30", "optim.clip=0"});
  r.steps = 4;
  try {
    verify(r);
    FAIL() << "infinite weights agreed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::diverged) << error.what();
  }
}

TEST(Verify, TooLittleMemoryIsRefusedBeforeAnythingRuns) {
  VerifyRequest r = request(2, {"parallel.ring=2"});
  r.memory = 1 << 18;
  r.progress = [](const std::string& text) { ADD_FAILURE() << text; };
  try {
    verify(r);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::environment);
    EXPECT_NE(std::string(error.what()).find("--sequence"), std::string::npos) << error.what();
  }
}

TEST(Verify, RandomTokensHaveTheVocabularyDocumentsAndMaskedLabels) {
  VerifyRequest r = request(2, {"data.train=[\"nowhere.h5\"]", "model.vocab=61", "parallel.ring=2"});
  r.only_own = true;
  const LayoutVerdict report = verify(r);
  EXPECT_EQ(report.verdict("verify.toml"), "");
  ASSERT_EQ(report.notes.size(), 2U);
  EXPECT_NE(report.notes.back().find("nowhere.h5 does not exist: random tokens of 61 ids"), std::string::npos);
  std::string path;
  {
    const RandomCorpus random({61, 2000, 10});
    path = random.descriptor().file;
    Corpus corpus({random.descriptor()}, {.split = "train", .sequence = 100, .pack = Pack::documents});
    EXPECT_TRUE(corpus.has_documents());
    EXPECT_EQ(corpus.tokenizer().vocab_size, 61);
    std::vector<int32_t> inputs(100), labels(100), documents(100);
    const std::vector<PositionRange> all{{0, 100}};
    const int64_t targets = corpus.read(3, all, {inputs, labels, documents});
    // 7/8 of the tokens, without those that begin a document.
    EXPECT_GT(targets, 60);
    EXPECT_LT(targets, 92);
    EXPECT_GT(documents.back(), 3);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Verify, ShrinkingLeavesTheModelAlone) {
  const Config config = request(4, {"parallel.ring=2", "parallel.data=2"}).config;
  std::vector<std::string> notes;
  const Config small = shrink(config, 4, 17, notes);
  for (const auto& difference : config_differences(config, small)) {
    EXPECT_TRUE(difference.key == "train.batch" || difference.key == "train.micro_batch" ||
                difference.key == "data.sequence")
        << difference.key;
  }
  EXPECT_EQ(notes.size(), 2U);
  const RunLayout layout = resolve_layout(small, 4);
  EXPECT_EQ(small.train.batch_samples, 8);
  EXPECT_EQ(layout.passes, 2);
  EXPECT_EQ(layout.micro_batch, 2);
  notes.clear();
  const Config few = parse_config(config_text("x.h5"), "v.toml", {"train.batch=3 samples", "train.micro_batch=1"});
  EXPECT_EQ(shrink(few, 1, 0, notes).train.batch_samples, 2);
  EXPECT_EQ(shrink(few, 3, 0, notes).train.batch_samples, 3);
}

TEST(Verify, TakesAsFewRanksAsTheExtentsFitOn) {
  const auto least = [](const std::vector<std::string>& overrides) {
    return least_ranks(parse_config(config_text("x.h5"), "v.toml", overrides));
  };
  EXPECT_EQ(least({}), 1);
  EXPECT_EQ(least({"parallel.ring=2", "parallel.tensor=2"}), 4);
  EXPECT_EQ(least({"parallel.ring=2", "parallel.data=4"}), 8);
  EXPECT_EQ(least({"parallel.zero=1", "parallel.zero_group=4"}), 4);
}

TEST(Verify, AutomaticExtentsNeedANumberOfRanks) {
  VerifyRequest r = request(0, {"parallel.ring=auto", "parallel.tensor=auto"});
  r.directions = 0;
  r.only_own = true;
  try {
    verify(r);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
  }
  r.ranks = 2;
  const LayoutVerdict report = verify(r);
  EXPECT_EQ(report.verdict("verify.toml"), "");
  EXPECT_EQ(report.layouts.front().ranks, 2);
}

TEST(Derivative, DoesNotDependOnTheFirstStep) {
  for (const double step : {0.01, 0.3, 2.0}) {
    const auto found = derivative([](double t) { return std::exp(3.0 * t); }, step, 1e-15, 1e-9);
    EXPECT_NEAR(found.value, 3.0, 1e-4) << step;
    EXPECT_LE(std::abs(found.value - 3.0), found.error) << step;
  }
  // A function that rounds to 1e-6: the error says so.
  const auto rough = derivative([](double t) { return std::round(std::sin(t) * 1e6) / 1e6; }, 0.1, 1e-6, 1e-12);
  EXPECT_NEAR(rough.value, 1.0, 1e-4);
  EXPECT_GT(rough.error, 1e-6);
  EXPECT_LE(std::abs(rough.value - 1.0), rough.error);
}

class VerifyCommand : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("verify-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  int run(const std::string& config, std::vector<std::string> more) {
    out_.str("");
    err_.str("");
    std::vector<std::string> args{"verify", config, "--directions=1", "--steps=1"};
    args.insert(args.end(), more.begin(), more.end());
    return run_program(args, out_, err_);
  }

  std::filesystem::path folder_;
  std::ostringstream out_, err_;
};

TEST_F(VerifyCommand, PrintsTablesAndTheNextCommand) {
  const std::string path = write("a.toml", config_text("missing.h5"));
  EXPECT_EQ(run(path, {"--parallel.ring=2", "--sequence=11"}), 0) << err_.str();
  for (const char* part : {"layers.0.attention.k.bias", "ring 2, striped", "data 2, zero 3", "all agree",
                           "mpirun -np 2 farsight train", "data.sequence is 11 tokens here instead of 29"}) {
    EXPECT_NE(out_.str().find(part), std::string::npos) << part << "\n" << out_.str();
  }
  EXPECT_EQ(err_.str(), "");
}

TEST_F(VerifyCommand, PrintsOneObject) {
  const std::string path = write("a.toml", config_text("missing.h5"));
  EXPECT_EQ(run(path, {"--parallel.tensor=2", "--own-layout", "--json"}), 0) << err_.str();
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json.at("verdict"), "ok");
  EXPECT_EQ(json.at("layouts").size(), 1U);
  EXPECT_EQ(json.at("layouts")[0].at("verdict"), "ok");
  EXPECT_EQ(json.at("gradients").at("tensors").size(), 19U);
  EXPECT_GT(json.at("memory_bytes").at("needed").get<int64_t>(), 0);
}

TEST_F(VerifyCommand, AMismatchEndsWith70AfterTheReport) {
  VerifyRequest r = request(2);
  r.directions = 0;
  r.spoil_layout = [](const std::string& name, Config& c) { c.run.seed += name == "data 2" ? 1 : 0; };
  const LayoutVerdict report = verify(r);
  for (const bool json : {false, true}) {
    std::ostringstream out;
    try {
      conclude_verify(report, "lm.toml", json, out);
      FAIL() << "a mismatch passed";
    } catch (const Error& error) {
      EXPECT_EQ(exit_code(error.kind()), 70);
      const std::string said = error.what();
      for (const char* part : {"'data 2'", "embedding.weight", "report it"}) {
        EXPECT_NE(said.find(part), std::string::npos) << part << ": " << said;
      }
    }
    if (json) {
      EXPECT_EQ(nlohmann::json::parse(out.str()).at("verdict"), "mismatch");
    } else {
      EXPECT_NE(out.str().find("MISMATCH: the initial weights"), std::string::npos) << out.str();
    }
  }
}

TEST_F(VerifyCommand, RefusesWhatTrainingWouldRefuse) {
  const std::string good = write("a.toml", config_text("missing.h5"));
  EXPECT_EQ(run((folder_ / "none.toml").string(), {}), 78);
  EXPECT_EQ(run(good, {"--model.layrs=2"}), 78);
  EXPECT_NE(err_.str().find("layers"), std::string::npos) << err_.str();
  EXPECT_EQ(run(good, {"--parallel.ring=2", "--ranks=3"}), 78);
  EXPECT_NE(err_.str().find("legal layouts"), std::string::npos) << err_.str();
  EXPECT_EQ(run(good, {"--ranks=0"}), 64);
  EXPECT_EQ(run(good, {"--rank=2"}), 64);
  const std::string damaged = write("damaged.h5", "this is no HDF5 file, whatever its name says");
  EXPECT_EQ(run(write("b.toml", config_text(damaged)), {}), 65);
  EXPECT_EQ(out_.str(), "");
}

}  // namespace
}  // namespace farsight
