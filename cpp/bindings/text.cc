// One pass over what waits in several texts: parts of prompts and chosen tokens side by side.
#include "bindings/text.h"

#include <algorithm>
#include <string>

#include "formats/error.h"

namespace gemcut {

Text::Text(std::shared_ptr<SharedEngine> engine, const std::vector<int32_t>& token_ids, int64_t max_tokens,
           TextOptions options)
    : batch_(std::move(engine), 1, max_tokens), options_(std::move(options)) {
  if (token_ids.empty())
    throw Error(ErrorKind::usage, "token_ids: the text is empty, expected at least one token.");
  batch_.begin({token_ids});
  num_reused_ = batch_.rows_.front().num_reused;
  num_waiting_ = static_cast<int64_t>(token_ids.size()) - num_reused_;
}

void Text::append(const std::vector<int32_t>& token_ids) {
  const auto held = batch_.engine_->lock();
  batch_.check_room({token_ids});
  std::vector<int32_t>& all = batch_.rows_.front().token_ids;
  all.insert(all.end(), token_ids.begin(), token_ids.end());
  num_waiting_ += static_cast<int64_t>(token_ids.size());
}

// The steps of one call of run_pass.
class TextPass {
 public:
  TextPass(std::span<const Share> shares, int64_t num_steps);
  // Computes once what waits and chooses; whether more steps make sense.
  bool step();
  SharedEngine& engine() const { return *shares_.front().text->batch_.engine_; }
  std::vector<std::vector<Choice>> take() { return std::move(chosen_); }

 private:
  static Batch::Row& row_of(const Share& share) { return share.text->batch_.rows_.front(); }
  void compute(const std::vector<Work>& work);
  Choice choose(size_t index) const;
  bool push(size_t index, Choice choice);
  bool run_ahead();

  std::span<const Share> shares_;
  int64_t num_steps_, done_ = 0;
  std::vector<std::vector<Choice>> chosen_;
};

TextPass::TextPass(std::span<const Share> shares, int64_t num_steps)
    : shares_(shares), num_steps_(num_steps), chosen_(shares.size()) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::usage, what); };
  if (num_steps < 1) refuse("num_steps is " + std::to_string(num_steps) + ", expected at least 1.");
  const auto held = engine().lock();
  const int64_t vocab_size = engine().engine().config().vocab_size;
  for (const Share& share : shares) {
    if (share.text->batch_.engine_.get() != &engine()) refuse("shares: texts of two engines, expected one.");
    if (share.max_tokens < 1)
      refuse("max_tokens is " + std::to_string(share.max_tokens) + ", expected at least 1.");
    if (num_steps > 1 && (share.text->num_waiting() != 1 || !share.allowed.empty()))
      refuse("num_steps is " + std::to_string(num_steps) + ", expected 1 where a text has tokens waiting or a mask.");
    if (share.text->options_.sampling.temperature > 0 && share.max_tokens >= share.text->num_waiting() &&
        static_cast<int64_t>(share.uniforms.size()) < num_steps)
      refuse("uniforms: " + std::to_string(share.uniforms.size()) + " numbers, expected " + std::to_string(num_steps) + ".");
    check_mask(share.allowed, vocab_size);
  }
}

bool TextPass::step() {
  const auto held = engine().lock();
  engine().engine();  // throws where it was closed
  if (run_ahead()) return done_ < num_steps_;
  std::vector<Work> work;
  for (const Share& share : shares_) {
    const auto waiting = row_of(share).waiting();
    const size_t count = std::min(waiting.size(), static_cast<size_t>(share.max_tokens));
    work.push_back({row_of(share).sequence.get(), waiting.first(count), count == waiting.size(), share.allowed});
  }
  compute(work);
  std::vector<Choice> choices(shares_.size());
  for (size_t i = 0; i < shares_.size(); ++i)
    if (work[i].wants_row) choices[i] = choose(i);
  bool goes_on = ++done_ < num_steps_;
  for (size_t i = 0; i < shares_.size(); ++i) {
    shares_[i].text->num_waiting_ -= static_cast<int64_t>(work[i].token_ids.size());
    if (work[i].wants_row && push(i, std::move(choices[i]))) goes_on = false;
  }
  return goes_on;
}

void TextPass::compute(const std::vector<Work>& work) {
  bool wants_rows = false, best_only = true;
  for (size_t i = 0; i < work.size(); ++i) {
    const TextOptions& options = shares_[i].text->options_;
    if (!work[i].wants_row) continue;
    wants_rows = true;
    best_only = best_only && needs_best_only(options.sampling, options.num_top);
  }
  if (wants_rows) engine().engine().step(work, nullptr, best_only);
  else engine().engine().forward(work, {.rows = Rows::none, .want_logits = false});
}

Choice TextPass::choose(size_t index) const {
  const Share& share = shares_[index];
  const TextOptions& options = share.text->options_;
  const Engine& engine = this->engine().engine();
  const Engine::HeadView head = engine.head(index);
  check_finite(head);
  const std::span<const int32_t> seen(row_of(share).token_ids);
  const float uniform = share.uniforms.empty() ? 0 : share.uniforms[static_cast<size_t>(done_)];
  return choose_token(head, engine.config().vocab_size, options.sampling, uniform, seen,
                      seen.subspan(row_of(share).answer_start), share.allowed, options.num_top);
}

// Appends a token; whether it is one of its text's stop ids.
bool TextPass::push(size_t index, Choice choice) {
  Text& text = *shares_[index].text;
  row_of(shares_[index]).token_ids.push_back(choice.token_id);
  ++text.num_waiting_;
  const std::vector<int32_t>& stops = text.options_.stop_token_ids;
  const bool is_stop = std::find(stops.begin(), stops.end(), choice.token_id) != stops.end();
  chosen_[index].push_back(std::move(choice));
  return is_stop;
}

// A text that is alone and takes the best tokens may find several in one pass.
bool TextPass::run_ahead() {
  Text& text = *shares_.front().text;
  const TextOptions& options = text.options_;
  if (shares_.size() > 1 || !shares_.front().allowed.empty() ||
      !text.batch_.can_look_ahead(needs_best_only(options.sampling, options.num_top)))
    return false;
  std::vector<Choice>& chosen = chosen_.front();
  for (Choice& choice : text.batch_.choose_ahead(options.stop_token_ids, num_steps_ - done_)) {
    const std::vector<int32_t>& stops = options.stop_token_ids;
    const bool is_stop = std::find(stops.begin(), stops.end(), choice.token_id) != stops.end();
    done_ = is_stop ? num_steps_ : done_ + 1;
    chosen.push_back(std::move(choice));
  }
  return true;
}

std::vector<std::vector<Choice>> run_pass(std::span<const Share> shares, int64_t num_steps, const InterruptCheck& check) {
  if (shares.empty()) return {};
  TextPass pass(shares, num_steps);
  while (pass.step()) check();
  return pass.take();
}

}  // namespace gemcut
