"""What other programs call a setting: the names under which people look for it here."""

from __future__ import annotations

from collections.abc import Collection

SYNONYMS: dict[str, str] = {
    # a setting of Lightwell: what nanoGPT, litgpt, transformers, Keras and papers call it
    "activation": "act act_fn activation_function hidden_act nonlinearity",
    "attention_dropout": "attn_dropout attn_pdrop dropout_attention",
    "batch_size": "bs batch batchsize train_batch_size per_device_train_batch_size global_batch_size mbs",
    "beta2": "adam_beta2",
    "checkpoint_every": "save_every save_steps save_interval checkpoint_interval ckpt_every",
    # before the context, which has some of the same names, for the commands that have both
    "max_new_tokens": "max_tokens n_tokens num_tokens tokens length max_length n n_predict",
    "context_length": "block_size ctx context n_ctx seq_len seq_length seqlen max_seq_len max_seq_length "
    "sequence_length n_positions max_position_embeddings window max_length length",
    "d_ff": "ff ffn ffn_dim mlp_dim intermediate_size n_inner hidden_dim",
    "d_model": "embd n_embd emb emb_dim embed_dim embedding_dim hidden hidden_size dim width model_dim",
    "device": "gpu cuda accelerator",
    "embedding_dropout": "embd_pdrop emb_dropout",
    "end_of_text": "eos eos_token eot",
    "epochs": "epoch n_epochs num_epochs max_epochs num_train_epochs passes",
    "eval_every": "eval_interval eval_steps val_every eval_freq validate_every",
    "eval_tokens": "eval_iters eval_batches",
    "final_learning_rate": "min_lr final_lr lr_min",
    "grad_clip": "clip clip_grad max_grad_norm gradient_clip gradient_clip_val grad_norm_clip",
    "learning_rate": "lr rate eta alpha step_size",
    "log_every": "log_interval logging_steps log_steps",
    "micro_batch_size": "accum accumulation grad_accum gradient_accumulation gradient_accumulation_steps "
    "accumulate_grad_batches",
    "minutes": "time duration max_time hours seconds",
    "n_heads": "heads n_head num_heads nhead num_attention_heads",
    "n_kv_heads": "kv_heads n_kv_head num_kv_heads num_key_value_heads n_query_groups",
    "n_layers": "layers layer n_layer num_layers num_hidden_layers depth blocks n_blocks",
    "optimizer": "optim opt",
    "out": "name output output_dir out_dir o save save_dir dest destination run_name",
    "patience": "early_stop early_stopping",
    "positions": "pos position pos_emb positional position_embedding pos_encoding",
    "precision": "dtype amp fp16 mixed_precision",
    "preset": "model size_name config_name",
    "processes": "gpus n_gpus nproc nproc_per_node world_size devices num_gpus",
    "repetition_penalty": "rep_penalty repeat_penalty penalty",
    "residual_dropout": "dropout drop p_drop resid_pdrop drop_rate dropout_rate",
    "schedule": "scheduler lr_schedule lr_scheduler lr_scheduler_type lr_decay",
    "seed": "random_seed random_state rng",
    "steps": "iters iterations max_iters max_steps n_steps num_steps train_steps num_iterations updates",
    "stop": "stop_string stop_sequence until",
    "temperature": "temp t",
    "text_field": "field column text_column key",
    "tied_head": "tie tie_weights tied weight_tying tie_word_embeddings",
    "top_k": "topk k",
    "top_p": "topp nucleus p",
    "validation_fraction": "val_fraction val_split validation_split test_size val_size held_out",
    "vocab_size": "vocab n_vocab vocabulary vocabulary_size",
    "warmup_steps": "warmup warmup_iters warm_up n_warmup lr_warmup_iters",
    "weight_decay": "wd decay l2",
    "workers": "jobs j num_workers num_proc threads",
}


def is_synonym(name: str) -> bool:
    """Return whether other programs call a setting so, whichever names are valid here."""
    wanted = name.lstrip("-").replace("-", "_").lower()
    return any(wanted in theirs.split() for theirs in SYNONYMS.values())


def synonyms_of(name: str, valid: Collection[str]) -> list[str]:
    """Return the valid names that another program's name stands for, the likeliest first; names may be flags."""
    plain = {each.lstrip("-").replace("-", "_"): each for each in valid}
    wanted = name.lstrip("-").replace("-", "_").lower()
    return [plain[ours] for ours, theirs in SYNONYMS.items() if ours in plain and wanted in theirs.split()]
